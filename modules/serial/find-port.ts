// Which port a configuration means at this moment: a path as it is written, or whatever port the USB converter has now.

import { resolve } from 'node:path';
import {
  type Claim,
  type ClaimPlaces,
  GatewayError,
  type LinkOpener,
  listSerialPorts,
  matchingPorts,
  serialLink,
  serialPortClaim,
  type SerialPortPlaces,
  usbPortClaim,
  type UsbSelector,
} from '#sdk';
import type { SerialConfig, UsbConfig } from './config.ts';

/** What is meant, for people: `/dev/ttyUSB0`, `USB 0403:6001`. */
export function targetOf({ path, usb }: SerialConfig): string {
  if (path !== undefined) return path;
  return usb === undefined ? 'no port' : usbText(usb);
}

/** `USB 0403:6001 serial number A1`. */
function usbText(usb: UsbConfig): string {
  const serial = usb.serial_number === undefined ? '' : ` serial number ${usb.serial_number}`;
  const part = usb.interface_number === undefined ? '' : ` interface ${usb.interface_number}`;
  return `USB ${usb.vendor_id}:${usb.product_id ?? '*'}${serial}${part}`;
}

/**
 * Looks for the port now. `places`: where sysfs and the devices are.
 * @throws GatewayError GW_SERIAL_MISSING when no port, or more than one, is the one that is meant.
 */
export async function findPort(
  config: SerialConfig,
  { adapterId, dataDirectory }: { readonly adapterId: string; readonly dataDirectory: string },
  places?: SerialPortPlaces,
): Promise<LinkOpener> {
  return serialLink({
    adapterId,
    path: resolve(dataDirectory, config.path ?? findUsbPort(config.usb, places)),
    baudRate: config.baud_rate,
    dataBits: config.data_bits,
    parity: config.parity,
    stopBits: config.stop_bits,
    flowControl: config.flow_control,
  });
}

/** What the adapter keeps others from; nothing while no device of it is on the port. */
export function serialClaims(
  { path, usb, replay, devices }: SerialConfig,
  { dataDirectory }: ClaimPlaces,
): readonly Claim[] {
  const all = Object.values(devices);
  if (replay !== undefined || (all.length > 0 && all.every(({ simulate }) => simulate))) return [];
  if (path !== undefined) return [serialPortClaim(['path'], path, dataDirectory)];
  return usb === undefined ? [] : [usbPortClaim(['usb'], selectorOf(usb))];
}

function selectorOf(usb: UsbConfig): UsbSelector {
  const { vendor_id: vendorId, product_id: productId, serial_number: serialNumber } = usb;
  return { vendorId, productId, serialNumber, interfaceNumber: usb.interface_number };
}

function findUsbPort(usb: UsbConfig | undefined, places: SerialPortPlaces | undefined): string {
  if (usb === undefined) throw new GatewayError('GW_SERIAL_MISSING', 'No port is configured.');
  const [port, ...others] = matchingPorts(listSerialPorts(places), selectorOf(usb));
  if (port === undefined) {
    const text = `There is no serial port of ${usbText(usb)}. Check the cable; it is opened as soon as it appears.`;
    throw new GatewayError('GW_SERIAL_MISSING', text, { details: { reason: 'disconnected' } });
  }
  if (others.length === 0) return port.path;
  const paths = [port, ...others].map(({ path }) => path).join(', ');
  const text = `${usbText(usb)} means several ports (${paths}). Add serial_number or interface_number.`;
  throw new GatewayError('GW_SERIAL_MISSING', text, { details: { reason: 'disconnected' } });
}
