// Everything that serves one configured device: its requests, its poll groups and its writer, and how they do together.

import {
  type AdapterContext,
  capturePath,
  CaptureWriter,
  type DeviceId,
  type DeviceInfo,
  type DeviceState,
  GatewayError,
  type PointInfo,
  type PointShapeConfig,
  type PointWrite,
  shapedDevice,
  spread,
  systemRandom,
  type ValueKind,
  type WriteResult,
  writeRulesOf,
} from '#sdk';
import type { BusListener, BusPlace } from './bus-set.ts';
import type { DeviceConfig, ModbusConfig } from './config.ts';
import type { PointConfig } from './config-point.ts';
import { ModbusDevice } from './device.ts';
import { type DeviceIdentification, identifyDevice } from './identification.ts';
import { BROADCAST_UNIT } from './pdu.ts';
import { PollGroup } from './poll-group.ts';
import type { PlanLimits } from './poll-plan.ts';
import { PointWriter } from './point-writer.ts';
import { SunspecPoints } from './sunspec.ts';
import { decimalsOf, integerRange } from './values-number.ts';
import { type CompiledPoint, compilePoint, type EncodedWrite } from './values.ts';

export interface DeviceServiceOptions {
  readonly deviceId: DeviceId;
  readonly config: DeviceConfig;
  /** What the adapter says for all devices. */
  readonly defaults: Pick<ModbusConfig, 'timeout_ms' | 'retries' | 'request_gap_ms' | 'messages' | 'point_defaults'>;
  readonly place: BusPlace;
  readonly context: AdapterContext;
  readonly stop: AbortSignal;
}

interface TimedGroup {
  readonly periodMs: number;
  readonly group: PollGroup;
}

/** How bad a state is: a device is as bad as the worst of its groups. */
const STATE_RANK: Readonly<Record<DeviceState, number>> = { unknown: 0, good: 1, degraded: 2, offline: 3 };

export class DeviceService implements BusListener {
  readonly info: DeviceInfo;
  readonly place: BusPlace;
  readonly #options: DeviceServiceOptions;
  readonly #device: ModbusDevice;
  readonly #writer: PointWriter;
  readonly #points: ReadonlyMap<string, CompiledPoint>;
  readonly #groups: readonly TimedGroup[];
  #capturing: Promise<void> | undefined;
  readonly #states = new Map<number, { state: DeviceState; reason: string | undefined }>();

  constructor(options: DeviceServiceOptions) {
    const { deviceId, config, defaults, place, context, stop } = options;
    this.#options = options;
    this.place = place;
    this.#device = new ModbusDevice(
      {
        deviceId,
        unitId: config.unit_id,
        timeoutMs: config.timeout_ms ?? defaults.timeout_ms,
        retries: config.retries ?? defaults.retries,
        requestGapMs: config.request_gap_ms ?? defaults.request_gap_ms,
        breakerFailures: config.circuit_breaker.failures,
        probeMinMs: config.circuit_breaker.probe_interval_min_ms,
        probeMaxMs: config.circuit_breaker.probe_interval_max_ms,
      },
      { bus: place.bus, context, random: systemRandom, probeTurn: place.probeTurn, stop },
    );
    this.#writer = new PointWriter({
      device: this.#device,
      clock: context.clock,
      forceMultiple: config.force_multiple_writes,
      waiting: place.waitingWrites,
    });
    const points = Object.entries(config.points).map(([name, point]) => compilePoint(name, point, config.byte_order));
    this.#points = new Map(points.map((point) => [point.name, point]));
    this.info = {
      ...shapedDevice({
        deviceId,
        points: points.map(pointInfo),
        pointConfig: (name) => shapeConfig(config.points[name]),
        device: config,
        adapter: defaults,
      }),
      pollIntervalMs: config.poll_interval_ms,
    };
    this.#groups = this.#createGroups(points);
    place.listeners.add(this);
  }

  get state(): DeviceState {
    return this.#device.state;
  }

  /** The first poll comes after `delayMs`. */
  start(delayMs: number): void {
    const { context, deviceId } = this.#options;
    const firstMs = context.clock.monotonicMs() + delayMs;
    const startGroups = (): void => {
      for (const { periodMs, group } of this.#groups) {
        group.start({ periodMs, firstMs, phase: spread(`${context.adapterId}/${deviceId}/${periodMs}`) });
      }
    };
    if (this.#options.config.capture === undefined) startGroups();
    // A capture has the first poll in it: what is read once an hour would else be missing for so long.
    else this.#capturing = this.#openCapture(this.#options.config.capture).then(startGroups);
  }

  /** Resolves when nothing is under way any more, once the stop signal has aborted. */
  async settled(): Promise<void> {
    await this.#capturing;
    await Promise.all(this.#groups.map(({ group }) => group.settled()));
    await this.#device.capture?.close();
  }

  busConnected(isSamePeer: boolean): void {
    if (!isSamePeer) this.#device.reconnected();
    if (this.#groups.length === 0) this.#device.report('good');
    for (const { group } of this.#groups) group.reconnected();
  }

  busLost(): void {
    if (this.#groups.length === 0) this.#device.report('offline', 'disconnected');
    for (const { group } of this.#groups) group.lost('disconnected');
  }

  /** @throws GatewayError as `Adapter.checkWrite` does. */
  checkWrite(write: PointWrite): void {
    this.#encode(write);
  }

  /** @throws GatewayError as `Adapter.write` does. */
  async write(write: PointWrite, signal: AbortSignal): Promise<WriteResult> {
    const { point, encoded } = this.#encode(write);
    return this.#writer.write(point, encoded, signal);
  }

  #encode({ point: name, value, deviceId }: PointWrite): {
    readonly point: CompiledPoint;
    readonly encoded: EncodedWrite;
  } {
    const point = this.#points.get(name);
    if (point === undefined) throw new GatewayError('GW_NOT_FOUND', `Device "${deviceId}" has no point "${name}".`);
    if (this.#options.config.replay !== undefined) {
      const words = `"${deviceId}" is a capture that is played; nothing can be written to it.`;
      throw new GatewayError('GW_WRITE_REFUSED', words);
    }
    if (!point.config.writable) {
      throw new GatewayError(
        'GW_WRITE_REFUSED',
        `Point "${name}" of "${deviceId}" is not writable. Set \`writable: true\` in the configuration if it is meant to be.`,
      );
    }
    return { point, encoded: point.encode(value) };
  }

  identify(signal: AbortSignal): Promise<DeviceIdentification> {
    const dueMs = this.#options.context.clock.monotonicMs();
    return identifyDevice((request) => this.#device.request(request, { priority: 'read', dueMs }, signal));
  }

  async #openCapture({ file, max_bytes: maxBytes }: NonNullable<DeviceConfig['capture']>): Promise<void> {
    const { context, deviceId } = this.#options;
    this.#device.capture = await CaptureWriter.open({
      path: capturePath(context.captureDirectory, file),
      maxBytes,
      clock: context.clock,
      onEnd: (reason) => context.log.warn({ device: deviceId, reason }, 'The capture of a device has ended.'),
    });
  }

  #createGroups(points: readonly CompiledPoint[]): readonly TimedGroup[] {
    const { config, context, place, stop } = this.#options;
    // Nobody answers a broadcast: such a device can only be written, and is as good as its bus.
    if (config.unit_id === BROADCAST_UNIT && !place.bus.answersBroadcast) return [];
    const periods = new Map<number, CompiledPoint[]>();
    for (const point of points) {
      const periodMs = point.config.poll_interval_ms ?? config.poll_interval_ms;
      periods.set(periodMs, [...(periods.get(periodMs) ?? []), point]);
    }
    return [...periods].map(([periodMs, points]) => ({
      periodMs,
      group: new PollGroup({
        device: this.#device,
        context,
        points,
        sunspec: sunspecPoints(points, config),
        limits: planLimits(config),
        heartbeatMs: config.heartbeat_secs * 1000,
        stop,
        onState: (state, reason) => this.#onState(periodMs, state, reason),
      }),
    }));
  }

  #onState(periodMs: number, state: DeviceState, reason: string | undefined): void {
    this.#states.set(periodMs, { state, reason });
    let worst = { state, reason };
    for (const other of this.#states.values()) {
      if (STATE_RANK[other.state] > STATE_RANK[worst.state]) worst = other;
    }
    this.#device.report(worst.state, worst.reason);
  }
}

function sunspecPoints(points: readonly CompiledPoint[], config: DeviceConfig): SunspecPoints | undefined {
  if (points.every((point) => point.config.sunspec_models === undefined)) return undefined;
  return new SunspecPoints({ points, byteOrder: config.byte_order, baseAddresses: config.sunspec_base_addresses });
}

function planLimits(config: DeviceConfig): PlanLimits {
  return {
    maxRegisters: config.max_registers,
    maxCoils: config.max_coils,
    maxGapRegisters: config.max_gap_registers,
    maxGapCoils: config.max_gap_coils,
    oneRequestPerPoint: config.one_request_per_point,
    coilsFromZero: config.coils_from_zero,
  };
}

/** Scaling is part of decoding here, exact for 64 bits and undone for writes: none of it is left to the pipeline. */
function shapeConfig(config: PointConfig | undefined): PointShapeConfig | undefined {
  return config === undefined ? undefined : { ...config, scale: undefined, offset: undefined, decimals: undefined };
}

function pointInfo(point: CompiledPoint): PointInfo {
  const { name, text, unit, config } = point;
  return {
    name,
    address: text,
    ...(unit === undefined ? {} : { unit }),
    writable: config.writable,
    values: valueKind(point),
    writeRules: writeRulesOf(config),
  };
}

function valueKind({ type, config }: CompiledPoint): ValueKind {
  if (type === 'bool') return { kind: 'boolean' };
  if (type === 'string') return { kind: 'text' };
  if (config.enum !== undefined) return { kind: 'text', texts: Object.values(config.enum) };
  const bounds = {
    ...(config.min === undefined ? {} : { min: Number(config.min) }),
    ...(config.max === undefined ? {} : { max: Number(config.max) }),
  };
  if (integerRange(type) === undefined || config.scale_register !== undefined)
    return { kind: 'number', decimals: config.decimals ?? 2, ...bounds };
  const decimals = config.decimals ?? Math.max(decimalsOf(config.scale ?? 1), decimalsOf(config.offset ?? 0));
  return decimals === 0 ? { kind: 'integer', ...bounds } : { kind: 'number', decimals, ...bounds };
}
