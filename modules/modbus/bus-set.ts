// The buses that a configuration asks for: one a serial port, one a TCP server, or one a device.

import {
  capturePath,
  type Clock,
  type GatewayError,
  type LinkOpener,
  type Logger,
  type Random,
  serialLink,
} from '#sdk';
import { Bus } from './bus.ts';
import type { TransportConfig } from './config-transport.ts';
import type { DeviceConfig, ModbusConfig } from './config.ts';
import { FrameLog } from './frame-log.ts';
import { AsciiFramer } from './framer-ascii.ts';
import { MbapFramer } from './framer-mbap.ts';
import { RtuFramer } from './framer-rtu.ts';
import type { Framer } from './framer.ts';
import { replayLink } from './link-replay.ts';
import { tcpLink } from './link-tcp.ts';
import { ProbeTurn } from './probe-turn.ts';

/** A bus with what its devices share. */
export interface BusPlace {
  readonly bus: Bus;
  readonly frameLog: FrameLog;
  readonly probeTurn: ProbeTurn;
  readonly waitingWrites: { count: number };
  /** Told of by the bus; set by whoever serves its devices. */
  readonly listeners: Set<BusListener>;
}

export interface BusListener {
  /** @param isSamePeer as in `BusConnectionOptions.onConnected`. */
  busConnected(isSamePeer: boolean): void;
  busLost(error: GatewayError): void;
}

export interface BusParts {
  /** Of the adapter whose buses they are; a scan has none. */
  readonly adapterId?: string;
  /** Folder of the captures that devices replay. */
  readonly captureDirectory: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

const FRAMERS: Readonly<Record<TransportConfig['kind'], () => Framer>> = {
  tcp: () => new MbapFramer(),
  tls: () => new MbapFramer(),
  rtu: () => new RtuFramer(),
  rtu_over_tcp: () => new RtuFramer(),
  ascii: () => new AsciiFramer(),
};

/** A quick reconnect takes a few hundred ms and shall not fail a poll, however short the time limit of requests. */
const PATIENCE_MIN_MS = 1000;

/** Above this rate the specification fixes the silence between frames, as timers of 3.5 characters get too short. */
const FIXED_GAP_BAUD = 19_200;
const FIXED_GAP_MS = 1.75;
const GAP_CHARS = 3.5;

/** Silence between frames (Modbus over Serial Line V1.02, 2.5.1.1); ASCII frames have marks instead. */
export function frameGapMs(transport: TransportConfig, charMs: number): number {
  if (transport.kind !== 'rtu') return 0;
  return transport.baud_rate > FIXED_GAP_BAUD ? FIXED_GAP_MS : GAP_CHARS * charMs;
}

/** Finds or makes the bus of each device. */
export class BusSet {
  readonly #config: ModbusConfig;
  readonly #parts: BusParts;
  readonly #places = new Map<string, BusPlace>();

  constructor(config: ModbusConfig, parts: BusParts) {
    this.#config = config;
    this.#parts = parts;
  }

  get places(): readonly BusPlace[] {
    return [...this.#places.values()];
  }

  of(deviceId: string, device: DeviceConfig): BusPlace {
    const key = busKey(this.#config.transport, deviceId, device);
    const known = this.#places.get(key);
    if (known !== undefined) return known;
    const place = this.#create(device);
    this.#places.set(key, place);
    return place;
  }

  #create(device: DeviceConfig): BusPlace {
    const { transport } = this.#config;
    const opener = openerOf(transport, device, this.#parts);
    const frameLog = new FrameLog();
    const listeners = new Set<BusListener>();
    const bus = new Bus({
      opener,
      createFramer: FRAMERS[transport.kind],
      hasTransactionIds: hasTransactionIds(transport),
      clock: this.#parts.clock,
      random: this.#parts.random,
      log: this.#parts.log,
      frameLog,
      gapMs: frameGapMs(transport, opener.charMs),
      turnaroundMs: this.#config.turnaround_ms,
      connectDelayMs: this.#config.connect_delay_ms,
      patienceMs: Math.max(this.#config.timeout_ms, PATIENCE_MIN_MS) + this.#config.connect_delay_ms,
      onConnected: (isSamePeer) => {
        for (const listener of listeners) listener.busConnected(isSamePeer);
      },
      onDisconnected: (error) => {
        for (const listener of listeners) listener.busLost(error);
      },
    });
    const probeTurn = new ProbeTurn(device.circuit_breaker.probe_interval_min_ms);
    return { bus, frameLog, probeTurn, waitingWrites: { count: 0 }, listeners };
  }
}

function hasTransactionIds({ kind }: TransportConfig): boolean {
  return kind === 'tcp' || kind === 'tls';
}

function busKey(transport: TransportConfig, deviceId: string, device: DeviceConfig): string {
  if (device.replay !== undefined) return `replay ${deviceId}`;
  if (transport.kind === 'rtu' || transport.kind === 'ascii') return transport.path;
  const place = `${hostOf(transport.host, device)}:${device.port ?? transport.port}`;
  return transport.connections === 'per_device' ? `${place} ${deviceId}` : place;
}

// That there is a host is checked with the configuration.
function hostOf(host: string | undefined, device: DeviceConfig): string {
  return device.host ?? host ?? 'localhost';
}

function openerOf(transport: TransportConfig, device: DeviceConfig, parts: BusParts): LinkOpener {
  const { adapterId, clock, captureDirectory } = parts;
  if (device.replay !== undefined) {
    const path = capturePath(captureDirectory, device.replay.file);
    return replayLink({ path, hasTransactionIds: hasTransactionIds(transport), clock });
  }
  if (transport.kind === 'rtu' || transport.kind === 'ascii') {
    return serialLink({
      ...(adapterId !== undefined && { adapterId }),
      path: transport.path,
      baudRate: transport.baud_rate,
      dataBits: transport.data_bits,
      parity: transport.parity,
      // A character keeps its length without a parity bit (2.5.1, 2.5.2).
      stopBits: transport.stop_bits ?? (transport.parity === 'none' ? 2 : 1),
    });
  }
  return tcpLink({
    host: hostOf(transport.host, device),
    port: device.port ?? transport.port,
    connectTimeoutMs: transport.connect_timeout_ms,
    clock,
    ...(transport.kind === 'tls'
      ? {
          tls: {
            ca: transport.ca,
            certificate: transport.certificate,
            key: transport.key,
            serverName: transport.server_name,
          },
        }
      : {}),
  });
}
