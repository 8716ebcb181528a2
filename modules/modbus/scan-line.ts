// The lines that a scan listens on: opened for it, or lent by an adapter that polls there.

import { realpath } from 'node:fs/promises';
import { errorText, GatewayError, isGatewayError, type ScanContext, systemRandom } from '#sdk';
import type { Bus } from './bus.ts';
import { BusSet } from './bus-set.ts';
import { deviceSchema, modbusConfig } from './config.ts';
import type { TransportConfig } from './config-transport.ts';
import type { ModbusRequest } from './pdu.ts';
import type { ScanOptions } from './scan-options.ts';

/** One place with one set of line parameters. */
export interface LinePlan {
  /** As buses name it: `tcp://10.0.0.5:502`, `/dev/ttyUSB0`. */
  readonly target: string;
  /** For people: the target, and the parameters of a serial line. */
  readonly text: string;
  readonly transport: TransportConfig;
}

export interface ScanLine {
  readonly text: string;
  /** The transport that a device found here would be configured with. */
  readonly transport: TransportConfig | undefined;
  /** Whether unit id 0 is a device like any other. */
  readonly hasUnitZero: boolean;
  /** Bytes that came so far in place of answers. */
  readonly strayBytes: number;
  /** @throws GatewayError as `Bus.exchange`; GW_CONNECT, GW_SERIAL_BUSY, GW_SERIAL_DENIED, GW_SERIAL_MISSING when there is no line. */
  exchange(unitId: number, request: ModbusRequest): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Faults of a serial port itself, whatever its settings. */
export const PORT_FAULTS: ReadonlySet<string> = new Set(['GW_SERIAL_BUSY', 'GW_SERIAL_DENIED', 'GW_SERIAL_MISSING']);

/** Stray bytes that the drivers of a line make when they are switched; they say nothing. */
const SWITCHING_BYTES = 2;
/** How long a lost connection is waited for. Some servers hang up on every unit id that they do not know. */
const RECONNECT_MS = 5000;
const RECONNECT_STEP_MS = 50;

/** Every place and parameter set that the options name. */
export function linePlans(options: ScanOptions): readonly LinePlan[] {
  const { host, port, serial = [], framing } = options;
  if (host !== undefined) {
    const kind = framing === 'rtu_over_tcp' ? framing : 'tcp';
    const transport = modbusConfig.shape.transport.parse({ kind, host, port });
    const target = `tcp://${host}:${port}`;
    return [{ target, text: target, transport }];
  }
  const kind = framing === 'ascii' ? framing : 'rtu';
  return serial.flatMap((path) =>
    options.baud_rates.flatMap((baud) =>
      options.parities.map((parity) => ({
        target: path,
        text: `${path} ${baud} baud, parity ${parity}`,
        transport: modbusConfig.shape.transport.parse({ kind, path, baud_rate: baud, parity }),
      })),
    ),
  );
}

/** The line that a running adapter has to a target, with what it says of its parameters. */
export async function lentLine(
  target: string,
  options: ScanOptions,
  context: ScanContext,
): Promise<ScanLine | undefined> {
  const names = new Set([target, await realpath(target).catch(() => target)]);
  for (const adapter of context.running) {
    for (const name of names) {
      const bus = adapter.lendLine?.(name) as Bus | undefined;
      if (bus === undefined) continue;
      const place = { text: bus.target, transport: undefined, close: () => Promise.resolve() };
      return lineOn(bus, place, options, context);
    }
  }
  return undefined;
}

/** Opens a line for the scan alone. Does not throw: what cannot be opened is told by the first exchange. */
export function ownLine(plan: LinePlan, options: ScanOptions, context: ScanContext): ScanLine {
  const config = modbusConfig.parse({ transport: plan.transport, timeout_ms: options.timeout_ms, devices: {} });
  const buses = new BusSet(config, {
    clock: context.clock,
    random: systemRandom,
    log: context.log,
    captureDirectory: '',
  });
  const { bus } = buses.of('scan', deviceSchema.parse({ points: {} }));
  bus.start();
  const place = { text: plan.text, transport: plan.transport, close: () => bus.stop() };
  return lineOn(bus, place, options, context);
}

function lineOn(
  bus: Bus,
  place: Pick<ScanLine, 'text' | 'transport' | 'close'>,
  options: ScanOptions,
  context: ScanContext,
): ScanLine {
  const { clock, signal } = context;
  let strayBytes = 0;
  const onStray = (bytes: number): void => {
    if (bytes > SWITCHING_BYTES) strayBytes += bytes;
  };
  const job = { timeoutMs: options.timeout_ms, gapMs: 0, priority: 'read', isSearch: true, onStray } as const;

  async function reconnected(fault: GatewayError): Promise<void> {
    for (let waitedMs = 0; bus.state !== 'connected'; waitedMs += RECONNECT_STEP_MS) {
      if (waitedMs >= RECONNECT_MS) throw lineFault(bus.error ?? fault);
      await clock.sleep(RECONNECT_STEP_MS, signal);
    }
  }

  let wasConnected = false;
  return {
    ...place,
    hasUnitZero: bus.answersBroadcast,
    get strayBytes() {
      return strayBytes;
    },
    async exchange(unitId, request) {
      try {
        const answer = await bus.exchange({ ...job, unitId, request, dueMs: clock.monotonicMs() }, signal);
        wasConnected = true;
        return answer;
      } catch (error) {
        if (!isGatewayError(error, 'GW_DISCONNECTED')) {
          wasConnected = true;
          throw error;
        }
        if (!wasConnected) throw lineFault(bus.error ?? error);
        await reconnected(error);
        throw error;
      }
    },
  };
}

/** Why there is no line, told apart from an answer that did not come. */
function lineFault(error: GatewayError): GatewayError {
  if (PORT_FAULTS.has(error.code)) return error;
  return new GatewayError('GW_CONNECT', errorText(error), { cause: error });
}
