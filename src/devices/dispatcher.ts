// The one door down: every write to a device, whoever asks, passes here, so that it is checked, bounded in time and told.

import type { Adapter, PointWrite, WriteResult } from '../core/adapter.ts';
import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import type { Telemetry } from '../observe/events.ts';
import type { DeviceRegistry } from './device-registry.ts';

export interface DispatcherOptions {
  readonly registry: DeviceRegistry;
  readonly adapterOf: (deviceId: DeviceId) => Adapter | undefined;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

export interface Dispatcher {
  /**
   * Writes a value and reads it back. `actor` says who asked, for the log.
   * @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED, GW_DEVICE_OFFLINE, GW_TIMEOUT, GW_MODBUS_EXCEPTION, GW_WRITE_VERIFY.
   */
  write(write: PointWrite, options: { readonly actor: string; readonly timeoutMs?: number }): Promise<WriteResult>;
  /** Asks a device who it is. @throws GatewayError GW_NOT_FOUND, GW_DEVICE_OFFLINE, GW_TIMEOUT, GW_MODBUS_EXCEPTION. */
  identify(deviceId: DeviceId): Promise<Readonly<Record<string, string>>>;
}

const WRITE_TIMEOUT_MS = 30_000;
const IDENTIFY_TIMEOUT_MS = 30_000;

export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { registry, adapterOf, clock, telemetry } = options;

  function target(write: PointWrite): Adapter & Required<Pick<Adapter, 'write'>> {
    const device = registry.get(write.deviceId);
    const adapter = adapterOf(write.deviceId);
    if (device === undefined || adapter === undefined) {
      throw new GatewayError('GW_NOT_FOUND', `There is no running device "${write.deviceId}".`);
    }
    const point = device.info.points.find(({ name }) => name === write.point);
    if (point === undefined) {
      throw new GatewayError('GW_NOT_FOUND', `Device "${write.deviceId}" has no point "${write.point}".`);
    }
    if (!point.writable || adapter.write === undefined) {
      const advice = 'Set `writable: true` on the point in the configuration if it is meant to be written.';
      throw new GatewayError(
        'GW_WRITE_REFUSED',
        `Point "${write.point}" of "${write.deviceId}" is not writable. ${advice}`,
      );
    }
    return adapter as Adapter & Required<Pick<Adapter, 'write'>>;
  }

  async function within<T>(timeoutMs: number, late: string, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const deadline = new AbortController();
    const cancel = clock.after(timeoutMs, () => deadline.abort());
    try {
      return await act(deadline.signal);
    } catch (error) {
      if (!deadline.signal.aborted) throw error;
      throw new GatewayError('GW_TIMEOUT', late, { cause: error });
    } finally {
      cancel();
    }
  }

  return {
    async write(write, { actor, timeoutMs = WRITE_TIMEOUT_MS }) {
      const fields = { device: write.deviceId, point: write.point, value: String(write.value), actor };
      const late = `Writing "${write.point}" of "${write.deviceId}" took longer than ${timeoutMs} ms. It may have reached the device: read the point before writing again.`;
      try {
        const result = await within(timeoutMs, late, (signal) => target(write).write(write, signal));
        telemetry.emit('point_written', { ...fields, readBack: String(result.readBack) });
        return result;
      } catch (error) {
        telemetry.emit('point_write_failed', { ...fields, error: errorText(error) });
        throw error;
      }
    },
    async identify(deviceId) {
      const adapter = adapterOf(deviceId);
      if (adapter?.identify === undefined) {
        throw new GatewayError('GW_NOT_FOUND', `There is no running device "${deviceId}" that can tell who it is.`);
      }
      const late = `"${deviceId}" did not tell who it is within ${IDENTIFY_TIMEOUT_MS} ms.`;
      return within(IDENTIFY_TIMEOUT_MS, late, (signal) => adapter.identify?.(deviceId, signal) ?? Promise.resolve({}));
    },
  };
}
