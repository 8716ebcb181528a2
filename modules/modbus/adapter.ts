// The Modbus adapter: devices on buses, started together, isolated from each other.

import {
  abortable,
  type Adapter,
  type AdapterContext,
  GatewayError,
  type HealthReport,
  parseDeviceId,
  systemRandom,
} from '#sdk';
import { BusSet } from './bus-set.ts';
import type { ModbusConfig } from './config.ts';
import { DeviceService } from './device-service.ts';
import type { LoggedFrame } from './frame-log.ts';
import type { DeviceIdentification } from './identification.ts';

/** What `scan` and the frame log ask of it beyond the contract. */
export interface ModbusAdapter extends Adapter {
  /**
   * Who the device says it is (function 43/14).
   * @throws GatewayError GW_NOT_FOUND, GW_MODBUS_EXCEPTION when it cannot tell, GW_TIMEOUT, GW_DISCONNECTED, GW_ABORTED.
   */
  identify(deviceId: string, signal: AbortSignal): Promise<DeviceIdentification>;
  /** Starts or stops keeping the frames of the bus of a device. @throws GatewayError GW_NOT_FOUND. */
  watchFrames(deviceId: string, on: boolean): void;
  /** The newest frames of the bus of a device, oldest first. @throws GatewayError GW_NOT_FOUND. */
  frames(deviceId: string): readonly LoggedFrame[];
}

/** The first polls of the devices are spread over so long, that of the first device comes at once. */
const FIRST_POLLS_MS = 500;
/** Devices named in the health report; the others are counted. */
const NAMED_DEVICES = 5;

export function createModbusAdapter(config: ModbusConfig, context: AdapterContext): ModbusAdapter {
  const { adapterId, captureDirectory, clock, log } = context;
  const stopping = new AbortController();
  const buses = new BusSet(config, { adapterId, clock, random: systemRandom, log, captureDirectory });
  const services = new Map<string, DeviceService>();
  for (const [name, device] of Object.entries(config.devices)) {
    const deviceId = parseDeviceId(name);
    const place = buses.of(name, device);
    services.set(
      name,
      new DeviceService({ deviceId, config: device, defaults: config, place, context, stop: stopping.signal }),
    );
  }
  const infos = [...services.values()].map(({ info }) => info);
  let isStarted = false;
  let stopped: Promise<void> | undefined;

  function service(deviceId: string): DeviceService {
    const found = services.get(deviceId);
    if (found !== undefined) return found;
    throw new GatewayError('GW_NOT_FOUND', `Adapter "${context.adapterId}" has no device "${deviceId}".`);
  }

  async function stopAll(): Promise<void> {
    stopping.abort();
    await Promise.all(buses.places.map(({ bus }) => bus.stop()));
    await Promise.all([...services.values()].map((service) => service.settled()));
  }

  function health(): HealthReport {
    if (stopping.signal.aborted) return { status: 'stopped' };
    if (!isStarted) return { status: 'starting' };
    const errors = buses.places.flatMap(({ bus }) => (bus.error === undefined ? [] : [bus.error.message]));
    const offline = [...services].filter(([, { state }]) => state === 'offline').map(([deviceId]) => deviceId);
    if (errors.length === 0 && offline.length === 0) return { status: 'running' };
    const reason = errors.length > 0 ? listed(errors, ' ') : `No answer from ${listed(offline, ', ')}.`;
    return { status: 'degraded', reason };
  }

  return {
    devices: () => infos,
    start() {
      if (isStarted || stopping.signal.aborted) return Promise.resolve();
      isStarted = true;
      for (const { bus } of buses.places) bus.start();
      let index = 0;
      for (const service of services.values()) {
        service.start((FIRST_POLLS_MS * index) / services.size);
        index += 1;
      }
      return Promise.resolve();
    },
    stop(signal) {
      stopped ??= stopAll();
      return abortable(stopped, signal);
    },
    health,
    lastProgressMs: () => Math.min(clock.monotonicMs(), ...buses.places.map(({ bus }) => bus.lastProgressMs)),
    checkWrite: (write) => service(write.deviceId).checkWrite(write),
    write: async (write, signal) => service(write.deviceId).write(write, signal),
    identify: async (deviceId, signal) => service(deviceId).identify(signal),
    lendLine: (target) => buses.places.find(({ bus }) => bus.target === target)?.bus,
    watchFrames(deviceId, on) {
      service(deviceId).place.frameLog.isOn = on;
    },
    frames: (deviceId) => service(deviceId).place.frameLog.frames(),
  };
}

function listed(texts: readonly string[], separator: string): string {
  const named = texts.slice(0, NAMED_DEVICES).join(separator);
  return texts.length > NAMED_DEVICES ? `${named}${separator}and ${texts.length - NAMED_DEVICES} more` : named;
}
