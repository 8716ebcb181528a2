// The serial adapter: the devices of one line, started together, isolated from each other.

import { join } from 'node:path';
import {
  abortable,
  type Adapter,
  type AdapterContext,
  capturePath,
  CaptureWriter,
  GatewayError,
  type HealthReport,
  parseDeviceId,
  systemRandom,
} from '#sdk';
import type { SerialConfig } from './config.ts';
import { checksumSettings } from './device-plan.ts';
import { DeviceService } from './device-service.ts';
import { findPort, targetOf } from './find-port.ts';
import { createScanner, silenceMsOf } from './framing.ts';
import { type LentLine, SerialLine } from './line.ts';
import { lineFormatText } from './line-format.ts';
import { PortWire } from './port-wire.ts';
import { ReplayWire } from './replay-wire.ts';
import type { Wire } from './wire.ts';

/** Devices named in the health report; the others are counted. */
const NAMED_DEVICES = 5;

export function createSerialAdapter(config: SerialConfig, context: AdapterContext): Adapter {
  const stopping = new AbortController();
  const services = new Map<string, DeviceService>();
  const checksum = checksumSettings(config);
  const line = new SerialLine({
    wire: createWire(config, context),
    framing: {
      scanner: createScanner(config.framing, checksum !== undefined),
      checksum,
      silenceMs: silenceMsOf(config.framing),
    },
    gapMs: config.request_gap_ms,
    context,
    askerOf(request) {
      for (const service of services.values()) {
        const asker = service.askerOf(request);
        if (asker !== undefined) return asker;
      }
      return undefined;
    },
  });
  const waitingWrites = { count: 0 };
  for (const [name, device] of Object.entries(config.devices)) {
    const deviceId = parseDeviceId(name);
    const parts = { deviceId, config: device, adapter: config, line, waitingWrites, context };
    services.set(name, new DeviceService({ ...parts, stop: stopping.signal }));
  }
  const infos = [...services.values()].map(({ info }) => info);
  let isStarted = false;
  let stopped: Promise<void> | undefined;

  function serviceOf(deviceId: string): DeviceService {
    const service = services.get(deviceId);
    if (service !== undefined) return service;
    throw new GatewayError('GW_NOT_FOUND', `Adapter "${context.adapterId}" has no device "${deviceId}".`);
  }

  async function stopAll(): Promise<void> {
    stopping.abort();
    await line.stop();
    await Promise.all([...services.values()].map((service) => service.settled()));
  }

  function health(): HealthReport {
    if (stopping.signal.aborted) return { status: 'stopped' };
    if (!isStarted) return { status: 'starting' };
    if (line.wire.error !== undefined) return { status: 'degraded', reason: line.wire.error.message };
    const offline = [...services].filter(([, { state }]) => state === 'offline').map(([deviceId]) => deviceId);
    if (offline.length === 0) return { status: 'running' };
    const named = offline.slice(0, NAMED_DEVICES).join(', ');
    const more = offline.length > NAMED_DEVICES ? ` and ${offline.length - NAMED_DEVICES} more` : '';
    return { status: 'degraded', reason: `Nothing from ${named}${more}.` };
  }

  return {
    devices: () => infos,
    start() {
      if (isStarted || stopping.signal.aborted) return Promise.resolve();
      isStarted = true;
      // Devices first: they are told when the port opens.
      for (const service of services.values()) service.start();
      line.start();
      return Promise.resolve();
    },
    stop(signal) {
      stopped ??= stopAll();
      return abortable(stopped, signal);
    },
    health,
    // By the device file of the port, and only while it is open.
    lendLine: (target): LentLine | undefined =>
      line.wire.devicePath === target
        ? {
            adapterId: context.adapterId,
            baudRate: config.baud_rate,
            format: lineFormatText({ dataBits: config.data_bits, parity: config.parity, stopBits: config.stop_bits }),
            tap: (onData) => line.tap(onData),
          }
        : undefined,
    lastProgressMs: () => line.lastProgressMs,
    checkWrite: ({ deviceId, point, value }) => serviceOf(deviceId).checkWrite(point, value),
    write: async ({ deviceId, point, value }, signal) => serviceOf(deviceId).write(point, value, signal),
  };
}

function createWire(config: SerialConfig, context: AdapterContext): Wire {
  const { clock, log, captureDirectory } = context;
  const { capture, replay } = config;
  if (replay !== undefined) {
    const { pace, repeat, file } = replay;
    const ready = (signal: AbortSignal): Promise<void> => context.ready(signal);
    return new ReplayWire({ path: capturePath(captureDirectory, file), pace, repeat, clock, log, ready });
  }
  return new PortWire({
    target: targetOf(config),
    find: () => findPort(config, context),
    clock,
    random: systemRandom,
    log,
    openCapture:
      capture === undefined
        ? undefined
        : () =>
            CaptureWriter.open({
              path: join(captureDirectory, capture.file),
              maxBytes: capture.max_bytes,
              clock,
              onEnd: (reason) => log.warn({ reason }, 'The capture ended.'),
            }),
  });
}
