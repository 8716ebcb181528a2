// Stands in for devices that are simulated: the adapter never sees them. It is built once more with these devices alone,
// and never started, to tell their points; their values are made up here, the same way for every adapter.

import type { Adapter, AdapterContext, DeviceInfo, PointInfo, PointWrite, WriteResult } from '../core/adapter.ts';
import type { DeviceId } from '../core/device.ts';
import { GatewayError } from '../core/errors.ts';
import type { PointValue } from '../core/reading.ts';
import { alsoDegraded, type HealthReport } from '../core/service.ts';
import { simulatedValue } from './simulated-value.ts';
import { SIMULATED } from './stand-in-marks.ts';

/** Of a device that does not say how often it is read. */
const DEFAULT_INTERVAL_MS = 1000;

/** @param inner the adapter of the devices that are not simulated; undefined when all of them are. */
export function withSimulatedDevices(
  inner: Adapter | undefined,
  infos: readonly DeviceInfo[],
  context: AdapterContext,
): Adapter {
  const devices = new Map(infos.map((info) => [info.deviceId, new SimulatedDevice(info, context)]));
  const reason = `${devices.size} of its devices ${devices.size === 1 ? 'is' : 'are'} simulated.`;
  let isStopped = false;

  function of(deviceId: DeviceId): Adapter {
    if (inner !== undefined) return inner;
    throw new GatewayError('GW_NOT_FOUND', `There is no running device "${deviceId}".`);
  }

  function checkWrite(write: PointWrite): void {
    const device = devices.get(write.deviceId);
    if (device === undefined) of(write.deviceId).checkWrite?.(write);
    else device.checkWrite(write);
  }

  async function write(write: PointWrite, signal: AbortSignal): Promise<WriteResult> {
    const device = devices.get(write.deviceId);
    if (device !== undefined) return device.write(write);
    const adapter = of(write.deviceId);
    if (adapter.write !== undefined) return adapter.write(write, signal);
    throw new GatewayError('GW_WRITE_REFUSED', `Device "${write.deviceId}" cannot be written.`);
  }

  async function identify(deviceId: DeviceId, signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
    if (devices.has(deviceId)) return { vendor_name: 'Fieldpost', product_code: SIMULATED.reason };
    return (await of(deviceId).identify?.(deviceId, signal)) ?? {};
  }

  function health(): HealthReport {
    if (isStopped) return { status: 'stopped' };
    return alsoDegraded(inner?.health() ?? { status: 'running' }, reason);
  }

  return {
    devices: () => [...(inner?.devices() ?? []), ...infos],
    async start(signal) {
      for (const device of devices.values()) device.start();
      await inner?.start(signal);
    },
    async stop(signal) {
      isStopped = true;
      for (const device of devices.values()) device.stop();
      await inner?.stop(signal);
    },
    health,
    lastProgressMs: () => inner?.lastProgressMs?.(),
    checkWrite,
    write,
    identify,
    lendLine: (target) => inner?.lendLine?.(target),
  };
}

class SimulatedDevice {
  readonly #info: DeviceInfo;
  readonly #context: AdapterContext;
  readonly #written = new Map<string, PointValue>();
  #cancel = (): void => {};

  constructor(info: DeviceInfo, context: AdapterContext) {
    this.#info = info;
    this.#context = context;
  }

  start(): void {
    this.stop();
    this.#context.reportDevice(this.#info.deviceId, 'good', SIMULATED.reason);
    this.#publish();
  }

  stop(): void {
    this.#cancel();
  }

  /** @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED. */
  checkWrite({ point: name, value, deviceId }: PointWrite): void {
    const point = this.#info.points.find((candidate) => candidate.name === name);
    if (point === undefined) throw new GatewayError('GW_NOT_FOUND', `Device "${deviceId}" has no point "${name}".`);
    const fault = writeFault(point, value);
    if (fault !== undefined) throw new GatewayError('GW_WRITE_REFUSED', `"${name}" of "${deviceId}" ${fault}`);
  }

  /** @throws GatewayError as `checkWrite`. */
  write(write: PointWrite): WriteResult {
    this.checkWrite(write);
    const { point, value } = write;
    this.#written.set(point, value);
    return { readBack: value, quality: SIMULATED };
  }

  #publish(): void {
    const { clock } = this.#context;
    const { deviceId, points, pollIntervalMs = DEFAULT_INTERVAL_MS } = this.#info;
    const time = clock.now();
    this.#context.publishReadings({
      deviceId,
      time,
      // Computed points are made of the others, as those of a real device.
      readings: points.filter(isMeasured).map((point) => ({
        point: point.name,
        value: this.#written.get(point.name) ?? simulatedValue(point, deviceId, time.wallMs),
        quality: SIMULATED,
        ...(point.unit === undefined ? {} : { unit: point.unit }),
      })),
    });
    this.#cancel = clock.after(pollIntervalMs, () => this.#publish());
  }
}

const isMeasured = ({ shape }: PointInfo): boolean => shape?.expression === undefined;

/** Why a value cannot be written, as a real device's adapter would have it; undefined when it can. */
function writeFault({ writable, values }: PointInfo, value: PointValue): string | undefined {
  if (!writable) return 'is not writable.';
  if (values === undefined) return undefined;
  switch (values.kind) {
    case 'boolean':
      return typeof value === 'boolean' ? undefined : 'takes true or false.';
    case 'text':
      if (typeof value !== 'string') return 'takes a text.';
      return values.texts?.includes(value) === false ? `takes one of ${values.texts.join(', ')}.` : undefined;
    case 'integer':
    case 'number': {
      if (typeof value !== 'number' && typeof value !== 'bigint') return 'takes a number.';
      const { min, max } = values;
      if (min !== undefined && value < min) return `takes at least ${min}.`;
      return max !== undefined && value > max ? `takes at most ${max}.` : undefined;
    }
  }
}
