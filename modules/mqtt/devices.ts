// The devices of one adapter: which there are, how each is, who carries it, what is known of its points.

import {
  isDeviceId,
  LIMITS,
  type AdapterContext,
  type DeviceId,
  type DeviceInfo,
  type DeviceRefusal,
  type DeviceState,
  type PointInfo,
} from '#sdk';
import type { Dialect, Told } from './dialect.ts';

/** What an arrival, or a device in it, was refused for: a stable word that is counted. */
export type Refused = 'bad_device_id' | DeviceRefusal;

/** Anything that devices come through: a session of the broker, the connection to one. */
export type Carrier = object;

export interface Device {
  readonly deviceId: DeviceId;
  readonly dialect: Dialect;
  info: DeviceInfo;
  state: DeviceState;
  /** All that it came through and that still stand. */
  readonly carriers: Set<Carrier>;
  lastHeardMs: number;
  lastHeardWallMs: number;
  identity: Readonly<Record<string, string>>;
}

/** What the configuration makes of a device's points. */
export type Describe = (deviceId: DeviceId, points: readonly PointInfo[]) => DeviceInfo;

export class Devices {
  readonly #context: AdapterContext;
  readonly #devices = new Map<string, Device>();
  readonly #describe: Describe;

  constructor(context: AdapterContext, describe: Describe) {
    this.#context = context;
    this.#describe = describe;
  }

  get(deviceId: string): Device | undefined {
    return this.#devices.get(deviceId);
  }

  /** The device, taken in when it is new; a reason when its id cannot be used. */
  admit(id: string, dialect: Dialect, points: readonly PointInfo[]): Device | Refused {
    const known = this.#devices.get(id);
    if (known !== undefined) {
      // Its id may have been configured elsewhere since.
      return this.#context.addDevice(known.info) ?? known;
    }
    if (!isDeviceId(id)) return 'bad_device_id';
    const info = this.#describe(id, points);
    const refusal = this.#context.addDevice(info);
    if (refusal !== undefined) return refusal;
    const device: Device = {
      deviceId: id,
      dialect,
      info,
      state: 'unknown',
      carriers: new Set(),
      lastHeardMs: 0,
      lastHeardWallMs: 0,
      identity: {},
    };
    this.#devices.set(id, device);
    return device;
  }

  /** Takes in what an arrival told of the device itself; its readings are not looked at. */
  hear(device: Device, told: Told, carrier: Carrier | undefined): void {
    const { clock } = this.#context;
    device.lastHeardMs = clock.monotonicMs();
    device.lastHeardWallMs = clock.wallMs();
    this.learn(device, told);
    if (told.online === undefined) return;
    if (!told.online) device.carriers.clear();
    else if (carrier !== undefined) device.carriers.add(carrier);
    this.#report(device, told.online ? 'good' : 'offline', told.online ? undefined : 'offline');
  }

  /** Takes in what is known of the device, whether it is there or not. */
  learn(device: Device, { points, identity }: Pick<Told, 'points' | 'identity'>): void {
    if (points !== undefined && points !== device.info.points) {
      device.info = this.#describe(device.deviceId, points.slice(0, LIMITS.mqtt_device_points));
      this.#context.addDevice(device.info);
    }
    if (identity !== undefined) device.identity = { ...device.identity, ...identity };
  }

  /** The connection is gone, and with it every device that came through no other. */
  leave(carrier: Carrier, reason: string): void {
    for (const device of this.#devices.values()) {
      if (device.carriers.delete(carrier) && device.carriers.size === 0) this.#report(device, 'offline', reason);
    }
  }

  /** Those not heard for as long are offline. */
  expire(silentMs: number): void {
    const now = this.#context.clock.monotonicMs();
    for (const device of this.#devices.values()) {
      if (device.state !== 'good' || now - device.lastHeardMs < silentMs) continue;
      device.carriers.clear();
      this.#report(device, 'offline', 'silent');
    }
  }

  #report(device: Device, state: DeviceState, reason: string | undefined): void {
    device.state = state;
    this.#context.reportDevice(device.deviceId, state, reason);
  }
}
