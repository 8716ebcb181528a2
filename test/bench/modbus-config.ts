// What the configurations of the Modbus benches have in common.

/** `count` float32 points in one block, as the text of a YAML map. */
export function floatPoints(count: number): string {
  const points = Array.from(
    { length: count },
    (_, index) => `p${index}: { register: input:${index * 2}, type: float32 }`,
  );
  return `{ ${points.join(', ')} }`;
}

/** A gateway with one Modbus adapter, delivering to a broker. `transport` and `devices` are YAML. */
export function modbusConfiguration(options: {
  readonly transport: string;
  readonly devices: readonly string[];
  readonly url: string;
  /** Where `/metrics` is served. */
  readonly web: { readonly address: string; readonly port: number };
}): string {
  const { transport, devices, url, web } = options;
  return `
gateway: { id: plant-7 }
adapters:
  field:
    type: modbus
    transport: ${transport}
    devices:
${devices.map((device) => `      ${device}`).join('\n')}
upstream: { type: mqtt, url: "${url}" }
outbox: { min_free_bytes: 0 }
web: { address: ${web.address}, port: ${web.port} }
`;
}

/** The first report of a child that plays Modbus devices. */
export function isListening(report: unknown): report is { listening: number } {
  return typeof report === 'object' && report !== null && 'listening' in report;
}
