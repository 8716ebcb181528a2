// Which leaf devices there are, which adapter serves each, and how each is doing.

import type { DeviceInfo, DeviceRefusal } from '../core/adapter.ts';
import type { DeviceId, DeviceState } from '../core/device.ts';
import { LIMITS } from '../core/limits.ts';
import type { Timestamp } from '../core/time.ts';
import type { Clock } from '../core/clock.ts';
import type { Telemetry } from '../observe/events.ts';

export interface RegisteredDevice {
  readonly deviceId: DeviceId;
  readonly adapterId: string;
  readonly state: DeviceState;
  /** Why, when the state is not good. */
  readonly reason: string | undefined;
  /** When the state last changed. */
  readonly since: Timestamp;
  readonly info: DeviceInfo;
}

/** Keeps ids that no adapter may use. */
export const NO_ADAPTER = '';

export interface DeviceRegistry {
  /** Keeps ids for an adapter from the moment its configuration is known, before it has started. */
  reserve(adapterId: string, deviceIds: readonly string[]): void;
  /** Makes the adapter's devices exactly these; those that stay keep their state. */
  setAdapter(adapterId: string, devices: readonly DeviceInfo[]): void;
  /** Adds or describes anew a device that showed itself; says why when it does not. */
  add(adapterId: string, device: DeviceInfo): DeviceRefusal | undefined;
  report(deviceId: DeviceId, state: DeviceState, reason?: string): void;
  get(deviceId: DeviceId): RegisteredDevice | undefined;
  /** Whether it is there, or will be once its adapter has started. */
  isExpected(deviceId: DeviceId): boolean;
  /** Whether the id is that of an expected device, or one that no adapter may use. */
  isTaken(deviceId: DeviceId): boolean;
  /** Tells of every device that is added, described anew or changes its state; must be quick and not throw. Returns what ends it. */
  subscribe(listener: (device: RegisteredDevice) => void): () => void;
  list(adapterId?: string): readonly RegisteredDevice[];
}

export function createDeviceRegistry(clock: Clock, telemetry: Telemetry): DeviceRegistry {
  const devices = new Map<DeviceId, RegisteredDevice>();
  /** Configured ids and their adapters. */
  const reserved = new Map<string, string>();
  const listeners = new Set<(device: RegisteredDevice) => void>();
  const put = (device: RegisteredDevice): void => {
    devices.set(device.deviceId, device);
    for (const listener of listeners) listener(device);
  };
  const set = (adapterId: string, info: DeviceInfo): void => {
    const known = devices.get(info.deviceId);
    put({
      deviceId: info.deviceId,
      adapterId,
      state: known?.state ?? 'unknown',
      reason: known?.reason,
      since: known?.since ?? clock.now(),
      info,
    });
  };
  return {
    reserve(adapterId, deviceIds) {
      for (const [id, owner] of reserved) if (owner === adapterId) reserved.delete(id);
      for (const id of deviceIds) reserved.set(id, adapterId);
    },
    add(adapterId, info) {
      const known = devices.get(info.deviceId);
      if ((reserved.get(info.deviceId) ?? known?.adapterId ?? adapterId) !== adapterId) return 'foreign_device';
      if (known === undefined && devices.size >= LIMITS.devices) return 'too_many_devices';
      set(adapterId, info);
      return undefined;
    },
    setAdapter(adapterId, infos) {
      const keep = new Set(infos.map(({ deviceId }) => deviceId));
      for (const device of devices.values()) {
        if (device.adapterId === adapterId && !keep.has(device.deviceId)) devices.delete(device.deviceId);
      }
      for (const info of infos) set(adapterId, info);
    },
    report(deviceId, state, reason) {
      const device = devices.get(deviceId);
      if (device === undefined || (device.state === state && device.reason === reason)) return;
      if (device.state !== state) {
        telemetry.emit('device_state_changed', {
          key: deviceId,
          device: deviceId,
          adapter: device.adapterId,
          from: device.state,
          to: state,
          reason,
        });
      }
      const since = device.state === state ? device.since : clock.now();
      put({ ...device, state, reason, since });
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    get: (deviceId) => devices.get(deviceId),
    isExpected: (deviceId) => devices.has(deviceId) || (reserved.get(deviceId) ?? NO_ADAPTER) !== NO_ADAPTER,
    isTaken: (deviceId) => devices.has(deviceId) || reserved.has(deviceId),
    list: (adapterId) =>
      adapterId === undefined
        ? [...devices.values()]
        : [...devices.values()].filter((device) => device.adapterId === adapterId),
  };
}
