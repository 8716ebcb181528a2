// The serial adapter: the devices of one line, started together, isolated from each other.

import { join, resolve } from 'node:path';
import {
  abortable,
  type Adapter,
  type AdapterContext,
  capturePath,
  CaptureWriter,
  GatewayError,
  type HealthReport,
  type LinkOpener,
  listSerialPorts,
  matchingPorts,
  parseDeviceId,
  serialLink,
  systemRandom,
} from '#sdk';
import type { SerialConfig, UsbConfig } from './config.ts';
import { checksumSettings } from './device-plan.ts';
import { DeviceService } from './device-service.ts';
import { createScanner, silenceMsOf } from './framing.ts';
import { SerialLine } from './line.ts';
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
    lastProgressMs: () => line.lastProgressMs,
    async write({ deviceId, point, value }, signal) {
      const service = services.get(deviceId);
      if (service !== undefined) return service.write(point, value, signal);
      throw new GatewayError('GW_NOT_FOUND', `Adapter "${context.adapterId}" has no device "${deviceId}".`);
    },
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

function targetOf({ path, usb }: SerialConfig): string {
  if (path !== undefined) return path;
  return usb === undefined ? 'no port' : usbText(usb);
}

/** `USB 0403:6001 serial number A1`. */
function usbText(usb: UsbConfig): string {
  const serial = usb.serial_number === undefined ? '' : ` serial number ${usb.serial_number}`;
  const part = usb.interface_number === undefined ? '' : ` interface ${usb.interface_number}`;
  return `USB ${usb.vendor_id}:${usb.product_id ?? '*'}${serial}${part}`;
}

/** @throws GatewayError GW_SERIAL_MISSING when no port, or more than one, is the one that is meant. */
async function findPort(config: SerialConfig, context: AdapterContext): Promise<LinkOpener> {
  return serialLink({
    path: resolve(context.dataDirectory, config.path ?? (await findUsbPort(config.usb))),
    baudRate: config.baud_rate,
    dataBits: config.data_bits,
    parity: config.parity,
    stopBits: config.stop_bits,
    flowControl: config.flow_control,
  });
}

async function findUsbPort(usb: UsbConfig | undefined): Promise<string> {
  if (usb === undefined) throw new GatewayError('GW_SERIAL_MISSING', 'No port is configured.');
  const { vendor_id: vendorId, product_id: productId, serial_number: serialNumber } = usb;
  const selector = { vendorId, productId, serialNumber, interfaceNumber: usb.interface_number };
  const [port, ...others] = matchingPorts(await listSerialPorts(), selector);
  if (port === undefined) {
    const text = `There is no serial port of ${usbText(usb)}. Check the cable; it is opened as soon as it appears.`;
    throw new GatewayError('GW_SERIAL_MISSING', text, { details: { reason: 'disconnected' } });
  }
  if (others.length === 0) return port.path;
  const paths = [port, ...others].map(({ path }) => path).join(', ');
  const text = `${usbText(usb)} means several ports (${paths}). Add serial_number or interface_number.`;
  throw new GatewayError('GW_SERIAL_MISSING', text, { details: { reason: 'disconnected' } });
}
