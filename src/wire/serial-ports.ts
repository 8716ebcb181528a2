// The serial ports of this machine and what is known of them, read from sysfs: serialport's own list asks `udevadm`, which
// a container or a small image may not have.

import { realpathSync } from 'node:fs';
import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { Claim } from '../core/module.ts';

export interface SerialPortInfo {
  /** `/dev/ttyUSB0`. */
  readonly path: string;
  /** The name below /dev/serial/by-id, which stays the same wherever it is plugged in; USB only. */
  readonly byIdPath?: string;
  /** Four hexadecimal digits in lower case, as the other fields of USB converters. */
  readonly vendorId?: string;
  readonly productId?: string;
  readonly serialNumber?: string;
  /** Number of the interface of a converter with several ports. */
  readonly interfaceNumber?: number;
  readonly manufacturer?: string;
  readonly product?: string;
  readonly driver?: string;
}

export interface SerialPortPlaces {
  /** Default `/sys`. */
  readonly sysDirectory?: string;
  /** Default `/dev`. */
  readonly devDirectory?: string;
}

/** Directories looked up for the USB device that a port belongs to. */
const USB_PARENTS = 8;

/** All ports that have a device behind them, by path. Empty where there is no sysfs. */
export async function listSerialPorts(places: SerialPortPlaces = {}): Promise<readonly SerialPortInfo[]> {
  const { sysDirectory = '/sys', devDirectory = '/dev' } = places;
  const folder = join(sysDirectory, 'class', 'tty');
  const names = await readdir(folder).catch(() => []);
  const byId = await byIdNames(devDirectory);
  const ports = await Promise.all(
    names.map((name) => describePort(join(folder, name), join(devDirectory, name), byId)),
  );
  return ports
    .filter((port) => port !== undefined)
    .sort((left, right) => left.path.localeCompare(right.path, 'en', { numeric: true }));
}

/** For `claims` of an adapter. Links, such as those below by-id, are followed to the port that they mean now. */
export function serialPortClaim(path: Claim['path'], port: string): Claim {
  return { path, key: `serial port ${isAbsolute(port) ? deviceFile(port) : port}`, message: portIsTaken };
}

/** The same for a converter that is found by what it says of itself. */
export function usbPortClaim(path: Claim['path'], { vendorId, productId, ...selector }: UsbSelector): Claim {
  const { serialNumber, interfaceNumber } = selector;
  const ids = [vendorId.toLowerCase(), productId?.toLowerCase(), serialNumber, interfaceNumber];
  return { path, key: `serial port of USB ${JSON.stringify(ids)}`, message: portIsTaken };
}

function portIsTaken(owner: string): string {
  return `the serial port is already used by ${owner}; one port has one adapter: put all devices of the line there.`;
}

function deviceFile(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // Not plugged in yet.
    return resolve(path);
  }
}

/** What a converter must say of itself. Hexadecimal in any case. */
export interface UsbSelector {
  readonly vendorId: string;
  readonly productId?: string | undefined;
  readonly serialNumber?: string | undefined;
  readonly interfaceNumber?: number | undefined;
}

/** The ports that a selector means. */
export function matchingPorts(ports: readonly SerialPortInfo[], selector: UsbSelector): readonly SerialPortInfo[] {
  const { vendorId, productId, serialNumber, interfaceNumber } = selector;
  return ports.filter(
    (port) =>
      port.vendorId === vendorId.toLowerCase() &&
      (productId === undefined || port.productId === productId.toLowerCase()) &&
      (serialNumber === undefined || port.serialNumber === serialNumber) &&
      (interfaceNumber === undefined || port.interfaceNumber === interfaceNumber),
  );
}

/** Paths of devices to the names below serial/by-id that lead to them. */
async function byIdNames(devDirectory: string): Promise<ReadonlyMap<string, string>> {
  const folder = join(devDirectory, 'serial', 'by-id');
  const names = await readdir(folder).catch(() => []);
  const links = await Promise.all(
    names.map(async (name): Promise<[string, string] | undefined> => {
      const path = join(folder, name);
      const target = await readlink(path).catch(() => undefined);
      return target === undefined ? undefined : [resolve(folder, target), path];
    }),
  );
  return new Map(links.filter((link) => link !== undefined));
}

async function describePort(
  entry: string,
  path: string,
  byId: ReadonlyMap<string, string>,
): Promise<SerialPortInfo | undefined> {
  const device = await realpath(join(entry, 'device')).catch(() => undefined);
  if (device === undefined) return undefined;
  // Legacy ports that are not there have the type 0, PORT_UNKNOWN (linux/serial_core.h).
  if ((await text(join(entry, 'type'))) === '0') return undefined;
  const driver = await readlink(join(device, 'driver')).catch(() => undefined);
  const byIdPath = byId.get(path);
  return {
    path,
    ...(byIdPath === undefined ? {} : { byIdPath }),
    ...(driver === undefined ? {} : { driver: driver.slice(driver.lastIndexOf('/') + 1) }),
    ...(await usbFields(device)),
  };
}

/** What the USB device above a port says of itself. */
async function usbFields(device: string): Promise<Partial<SerialPortInfo>> {
  let folder = device;
  let interfaceText: string | undefined;
  for (let depth = 0; depth < USB_PARENTS; depth += 1) {
    interfaceText ??= await text(join(folder, 'bInterfaceNumber'));
    const vendorId = await text(join(folder, 'idVendor'));
    if (vendorId !== undefined) {
      const [productId, serialNumber, manufacturer, product] = await Promise.all(
        ['idProduct', 'serial', 'manufacturer', 'product'].map((name) => text(join(folder, name))),
      );
      return {
        vendorId,
        ...(productId === undefined ? {} : { productId }),
        ...(serialNumber === undefined ? {} : { serialNumber }),
        ...(interfaceText === undefined ? {} : { interfaceNumber: Number.parseInt(interfaceText, 16) }),
        ...(manufacturer === undefined ? {} : { manufacturer }),
        ...(product === undefined ? {} : { product }),
      };
    }
    folder = dirname(folder);
  }
  return {};
}

async function text(path: string): Promise<string | undefined> {
  const content = await readFile(path, 'utf8').catch(() => undefined);
  return content?.trim();
}
