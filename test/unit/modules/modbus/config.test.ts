import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { checkModbusConfig } from '../../../../modules/modbus/check-config.ts';
import { modbusConfig } from '../../../../modules/modbus/config.ts';

type Fields = Record<string, unknown>;

function config(fields: { transport?: Fields; device?: Fields; point?: Fields; points?: Fields }): unknown {
  const { transport = { kind: 'tcp', host: '10.0.0.5' }, device = {}, point = {} } = fields;
  const points = fields.points ?? { p: { register: 'holding:0', ...point } };
  return { transport, devices: { d: { points, ...device } } };
}

/** `path: message` of each fault of the check. */
function faults(fields: Parameters<typeof config>[0]): string[] {
  const parsed = modbusConfig.parse(config(fields));
  return checkModbusConfig(parsed).map(({ path, message }) => `${path.join('.')}: ${message}`);
}

const PEM = '-----BEGIN CERTIFICATE-----';

describe('the schema', () => {
  it('fills in defaults', () => {
    const { transport, devices, ...bus } = modbusConfig.parse(config({}));
    expect(transport).toEqual({
      kind: 'tcp',
      host: '10.0.0.5',
      port: 502,
      connect_timeout_ms: 5000,
      connections: 'shared',
    });
    expect(bus).toEqual({ timeout_ms: 1000, retries: 1, request_gap_ms: 0, turnaround_ms: 100, connect_delay_ms: 0 });
    expect(devices['d']).toMatchObject({
      unit_id: 1,
      poll_interval_ms: 1000,
      byte_order: 'ABCD',
      max_registers: 125,
      max_coils: 2000,
      circuit_breaker: { failures: 3, probe_interval_min_ms: 2000, probe_interval_max_ms: 30_000 },
      points: { p: { register: 'holding:0', writable: false, write_verification: 'read_back' } },
    });
  });

  it.each<[string, Parameters<typeof config>[0]]>([
    ['an unknown transport', { transport: { kind: 'udp' } }],
    ['a field of another transport', { transport: { kind: 'tcp', host: 'h', baud_rate: 9600 } }],
    ['7 data bits on RTU', { transport: { kind: 'rtu', path: '/dev/ttyS0', data_bits: 7 } }],
    ['a port outside', { transport: { kind: 'tcp', host: 'h', port: 65_536 } }],
    ['a unit id outside', { device: { unit_id: 256 } }],
    ['too large a block', { device: { max_registers: 126 } }],
    ['eight letters for a whole device', { device: { byte_order: 'ABCDEFGH' } }],
    ['an unknown type', { point: { type: 'int24' } }],
    ['an unknown field', { point: { typ: 'int16' } }],
    ['an unknown byte order', { point: { byte_order: 'ACBD' } }],
    ['a bit above 15', { point: { bit: 16 } }],
    ['an enum of fractions', { point: { enum: { '1.5': 'x' } } }],
    ['an infinite scale', { point: { scale: Number.POSITIVE_INFINITY } }],
    ['a point without a register', { points: { p: {} } }],
    ['a point with a bad register', { points: { p: { register: 'holding:65536' } } }],
    ['a name with a slash', { points: { 'a/b': { register: 'coil:0' } } }],
    ['a name with a space at the end', { points: { 'a ': { register: 'coil:0' } } }],
    ['a name of too many characters', { points: { ['a'.repeat(129)]: { register: 'coil:0' } } }],
  ])('refuses %s', (_, fields) => {
    expect(modbusConfig.safeParse(config(fields)).success).toBe(false);
  });

  it('refuses a name that JavaScript objects have', () => {
    const points = JSON.parse('{"__proto__": {"register": "coil:0"}}') as Fields;
    const result = modbusConfig.safeParse(config({ points }));
    expect(result.success && Object.keys(result.data.devices['d']?.points ?? {})).not.toContain('__proto__');
  });

  it('has a title on every field', () => {
    const untitled: string[] = [];
    let titled = 0;
    const visit = (schema: Fields, path: string): void => {
      for (const [name, field] of Object.entries((schema['properties'] ?? {}) as Record<string, Fields>)) {
        const here = `${path}.${name}`;
        if (typeof field['title'] === 'string' || 'const' in field) titled += 1;
        else untitled.push(here);
        visit(field, here);
      }
      const values = schema['additionalProperties'];
      if (typeof values === 'object' && values !== null) visit(values as Fields, `${path}.*`);
      for (const branch of (schema['oneOf'] ?? schema['anyOf'] ?? []) as Fields[]) visit(branch, path);
    };
    visit(JSON.parse(JSON.stringify(modbusConfigJsonSchema())) as Fields, '');
    expect(untitled).toEqual([]);
    expect(titled).toBeGreaterThan(50);
  });
});

function modbusConfigJsonSchema(): unknown {
  return z.toJSONSchema(modbusConfig, { io: 'input', reused: 'inline', unrepresentable: 'any' });
}

describe('the check', () => {
  it('finds nothing in the sample', () => {
    const text = readFileSync(new URL('../../../../modules/modbus/sample.yaml', import.meta.url), 'utf8');
    const { type, ...adapter } = (parse(text) as { adapters: Record<string, Fields> }).adapters['bus-1'] ?? {};
    expect(type).toBe('modbus');
    const parsed = modbusConfig.parse(adapter);
    expect(Object.keys(parsed.devices)).toEqual(['meter-1', 'old-plc']);
    expect(checkModbusConfig(parsed)).toEqual([]);
  });

  const float = { type: 'float32' };
  const text = { type: 'string', length_registers: 4 };
  const serial = { transport: { kind: 'rtu', path: '/dev/ttyS0' } };
  it.each<[Parameters<typeof config>[0], string]>([
    [{ transport: { kind: 'tcp' } }, 'devices.d: no host'],
    [
      { transport: { kind: 'tls', host: 'h', certificate: PEM } },
      'transport: certificate and key belong together; add key',
    ],
    [
      { transport: { kind: 'tls', host: 'h', key: PEM } },
      'transport: certificate and key belong together; add certificate',
    ],
    [
      { ...serial, device: { unit_id: 0 } },
      'devices.d.points.p: nobody answers a broadcast (unit_id 0), so its points can only be written',
    ],
    [{ ...serial, device: { unit_id: 248 } }, 'devices.d.unit_id: a device on a serial bus'],
    [{ ...serial, device: { host: 'h' } }, 'devices.d.host: only for tcp, tls and rtu_over_tcp'],
    [{ ...serial, device: { port: 502 } }, 'devices.d.port: only for tcp'],
    [
      { device: { circuit_breaker: { probe_interval_min_ms: 5000, probe_interval_max_ms: 4000 } } },
      'devices.d.circuit_breaker.probe_interval_min_ms: must not be above',
    ],
    [
      { point: { register: 'input:0', writable: true } },
      'devices.d.points.p.writable: input registers cannot be written',
    ],
    [{ point: { register: 'discrete:0', writable: true } }, 'devices.d.points.p.writable: discrete registers cannot'],
    [{ point: { register: 'coil:0', write: { min_interval_ms: 5 } } }, 'devices.d.points.p.write: limits what may be'],
    [{ point: { register: 'coil:0', bit: 0 } }, 'devices.d.points.p.bit: only for registers'],
    [{ point: { register: 'coil:0', type: 'uint16' } }, 'devices.d.points.p.type: coil is a table of bits'],
    [{ point: { register: 'coil:0', byte_order: 'CDAB' } }, 'devices.d.points.p.byte_order: only for registers'],
    [{ point: { register: 'coil:0', scale: 2 } }, 'devices.d.points.p.scale: only for numbers'],
    [{ point: { type: 'uint16', bit: 3 } }, 'devices.d.points.p.bit: one bit is a bool'],
    [{ point: { byte: 'high' } }, 'devices.d.points.p.byte: only for int8, uint8 and string'],
    [{ point: { ...float, byte_order: 'ABCDEFGH' } }, 'devices.d.points.p.byte_order: eight letters are for 64 bits'],
    [{ point: { type: 'string' } }, 'devices.d.points.p: a string wants length_registers'],
    [{ point: { ...text, length_registers: 124, writable: true } }, 'devices.d.points.p.length_registers: at most 123'],
    [{ point: { ...text, scale: 2 } }, 'devices.d.points.p.scale: only for numbers'],
    [{ point: { ...text, deadband: 1 } }, 'devices.d.points.p.deadband: only for numbers'],
    [{ point: { length_registers: 2 } }, 'devices.d.points.p.length_registers: only for strings'],
    [{ point: { encoding: 'ascii' } }, 'devices.d.points.p.encoding: only for strings'],
    [
      { point: { register: 'holding:65535', ...float } },
      'devices.d.points.p.register: 2 registers from 65535 end at 65536',
    ],
    [
      { point: { register: 465_536, type: 'int64' } },
      'devices.d.points.p.register: 4 registers from 65535 end at 65538',
    ],
    [{ point: float, device: { max_registers: 1 } }, 'devices.d.points.p.type: needs 2 registers in one request'],
    [{ point: text, device: { max_registers: 3 } }, 'devices.d.points.p.length_registers: needs 4 registers'],
    [
      { point: { register: 'coil:16' }, device: { coils_from_zero: true, max_coils: 16 } },
      'devices.d.points.p.register: with coils_from_zero only coils 0 to 15',
    ],
    [{ point: { scale: 0 } }, 'devices.d.points.p.scale: must not be 0'],
    [{ point: { min: 2, max: 1 } }, 'devices.d.points.p.min: must not be above max'],
    [{ point: { ...float, enum: { 0: 'off' } } }, 'devices.d.points.p.enum: only for integers'],
    [{ point: { enum: { 0: 'off', 1: 'off' } } }, 'devices.d.points.p.enum.1: "off" stands for 0 already'],
    [{ point: { enum: { 65_536: 'off' } } }, 'devices.d.points.p.enum.65536: uint16 holds 0 to 65535'],
    [{ point: { enum: { 0: 'off' }, scale: 2 } }, 'devices.d.points.p.scale: not with enum'],
    [{ point: { sentinels: [65_536] } }, 'devices.d.points.p.sentinels.0: 65536 does not fit a uint16'],
    [{ point: { type: 'int16', sentinels: [0x8000, -32_769] } }, 'devices.d.points.p.sentinels.1: -32769 does not fit'],
    [{ point: { sentinels: ['x'] } }, 'devices.d.points.p.sentinels.0: "x" is not an integer'],
    [{ point: { sentinels: [1.5] } }, 'devices.d.points.p.sentinels.0: 1.5 is not an exact integer'],
    [
      { point: { type: 'uint64', sentinels: [2 ** 64] } },
      'devices.d.points.p.sentinels.0: 18446744073709552000 is not an exact integer',
    ],
    [{ point: { ...float, sentinels: ['abc'] } }, 'devices.d.points.p.sentinels.0: "abc" is not a number'],
    [{ point: { register: 'coil:0', sentinels: [1] } }, 'devices.d.points.p.sentinels.0: a bool has no sentinels'],
    [{ point: { heartbeat_secs: 5 } }, 'devices.d.points.p.heartbeat_secs: only with deadband'],
  ])('of %o says %s', (fields, expected) => {
    const found = faults(fields);
    expect(found).toHaveLength(1);
    expect(found[0]?.startsWith(expected), `${found[0]} starts with ${expected}`).toBe(true);
  });

  it.each<Parameters<typeof config>[0]>([
    { transport: { kind: 'tcp' }, device: { host: '10.0.0.6' } },
    { transport: { kind: 'tcp', host: 'h' }, device: { unit_id: 0 } },
    { transport: { kind: 'tls', host: 'h', certificate: PEM, key: PEM } },
    { transport: { kind: 'ascii', path: '/dev/ttyS0' }, device: { unit_id: 247 } },
    { point: { register: 'holding:65534', type: 'float32' } },
    { point: { register: 'coil:15' }, device: { coils_from_zero: true, max_coils: 16 } },
    { point: { type: 'float32' }, device: { max_registers: 2 } },
    { point: { type: 'int64', byte_order: 'CDABGHEF' } },
    { point: { type: 'uint64', sentinels: ['0xFFFFFFFFFFFFFFFF', '18446744073709551615'] } },
    { point: { type: 'bool' } },
  ])('finds nothing in %o', (fields) => {
    expect(faults(fields)).toEqual([]);
  });

  it('finds every fault at once', () => {
    expect(
      faults({ transport: { kind: 'tcp' }, point: { register: 'input:0', writable: true, scale: 0 } }),
    ).toHaveLength(3);
  });
});
