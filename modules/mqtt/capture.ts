// Captures of devices: each publish that concerns one, as the PUBLISH packet that it is, before it is understood.

import { capturePath, CaptureWriter, loadPublishPackets, type AdapterContext, type PublishPackets } from '#sdk';
import type { MqttConfig } from './config.ts';
import type { Arrival, Dialect, Understood } from './dialect.ts';

export class Captures {
  readonly #devices: MqttConfig['devices'];
  readonly #context: AdapterContext;
  readonly #writers = new Map<string, CaptureWriter>();
  #packets: PublishPackets | undefined;

  constructor(devices: MqttConfig['devices'], context: AdapterContext) {
    this.#devices = devices;
    this.#context = context;
  }

  /** Begins the captures that are configured. Never rejects. */
  async open(): Promise<void> {
    const { captureDirectory, clock, log } = this.#context;
    for (const [device, { capture }] of Object.entries(this.#devices)) {
      if (capture === undefined || this.#writers.has(device)) continue;
      this.#packets ??= await loadPublishPackets();
      const writer = await CaptureWriter.open({
        path: capturePath(captureDirectory, capture.file),
        maxBytes: capture.max_bytes,
        clock,
        onEnd: (reason) => log.warn({ device, reason }, 'The capture of a device has ended.'),
      });
      this.#writers.set(device, writer);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#writers.values()].map((writer) => writer.close()));
  }

  /** The dialect, with what it understands recorded; itself when nothing is to be recorded. */
  tap(dialect: Dialect): Dialect {
    if (!Object.values(this.#devices).some(({ capture }) => capture !== undefined)) return dialect;
    return {
      ...dialect,
      understand: (arrival) => {
        const understood = dialect.understand(arrival);
        if (understood !== undefined) this.#record(arrival, understood, dialect.owner(arrival.topic));
        return understood;
      },
    };
  }

  #record({ topic, payload, replayed }: Arrival, { told }: Understood, owner: string | undefined): void {
    let packet: Buffer | undefined;
    for (const [device, writer] of this.#writers) {
      const isConcerned =
        device === owner ||
        told.some((one) => one.device === device) ||
        // What a Sparkplug node says of itself, or of another device, counts in the numbering of all.
        (owner !== undefined && device.startsWith(`${owner}.`));
      if (!isConcerned) continue;
      packet ??= this.#packets?.encode({ topic, payload, retain: replayed });
      if (packet !== undefined) writer.record('rx', packet);
    }
  }
}
