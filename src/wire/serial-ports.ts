// The serial ports of this machine and what is known of them, read from sysfs: serialport's own list asks `udevadm`, which
// a container or a small image may not have. It is read synchronously, as it is memory and not a disk, and the check of a
// configuration waits for nothing.

import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
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
export function listSerialPorts(places: SerialPortPlaces = {}): readonly SerialPortInfo[] {
  const { sysDirectory = '/sys', devDirectory = '/dev' } = places;
  const folder = join(sysDirectory, 'class', 'tty');
  const byId = byIdNames(devDirectory);
  return (attempt(() => readdirSync(folder)) ?? [])
    .flatMap((name) => describePort(join(folder, name), join(devDirectory, name), byId) ?? [])
    .sort((left, right) => left.path.localeCompare(right.path, 'en', { numeric: true }));
}

/**
 * For `claims` of an adapter. Links, such as those below by-id, are followed to the port that they mean now.
 * @param directory where a relative name begins; default: the current one
 */
export function serialPortClaim(path: Claim['path'], port: string, directory = '.'): Claim {
  return { path, key: `serial port ${deviceFile(resolve(directory, port))}`, message: portIsTaken };
}

/** The same for a converter that is found by what it says of itself: the port that it has now, where it is plugged in. */
export function usbPortClaim(path: Claim['path'], selector: UsbSelector, places?: SerialPortPlaces): Claim {
  const [port, ...others] = matchingPorts(listSerialPorts(places), selector);
  if (port !== undefined && others.length === 0) return serialPortClaim(path, port.path);
  const { vendorId, productId, serialNumber, interfaceNumber } = selector;
  const ids = [vendorId.toLowerCase(), productId?.toLowerCase(), serialNumber, interfaceNumber];
  return { path, key: `serial port of USB ${JSON.stringify(ids)}`, message: portIsTaken };
}

function portIsTaken(owner: string): string {
  return `the serial port is already used by ${owner}; one port has one adapter: put all devices of the line there.`;
}

function deviceFile(path: string): string {
  // The path itself where nothing is plugged in yet.
  return attempt(() => realpathSync(path)) ?? path;
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
function byIdNames(devDirectory: string): ReadonlyMap<string, string> {
  const folder = join(devDirectory, 'serial', 'by-id');
  const links = (attempt(() => readdirSync(folder)) ?? []).flatMap((name): [string, string][] => {
    const path = join(folder, name);
    const target = attempt(() => readlinkSync(path));
    return target === undefined ? [] : [[resolve(folder, target), path]];
  });
  return new Map(links);
}

function describePort(entry: string, path: string, byId: ReadonlyMap<string, string>): SerialPortInfo | undefined {
  const link = join(entry, 'device');
  // Most entries are virtual terminals, which have none.
  const device = existsSync(link) ? attempt(() => realpathSync(link)) : undefined;
  if (device === undefined) return undefined;
  // Legacy ports that are not there have the type 0, PORT_UNKNOWN (linux/serial_core.h).
  if (text(join(entry, 'type')) === '0') return undefined;
  const driver = attempt(() => readlinkSync(join(device, 'driver')));
  const byIdPath = byId.get(path);
  return {
    path,
    ...(byIdPath === undefined ? {} : { byIdPath }),
    ...(driver === undefined ? {} : { driver: driver.slice(driver.lastIndexOf('/') + 1) }),
    ...usbFields(device),
  };
}

/** What the USB device above a port says of itself. */
function usbFields(device: string): Partial<SerialPortInfo> {
  let folder = device;
  let interfaceText: string | undefined;
  for (let depth = 0; depth < USB_PARENTS; depth += 1) {
    interfaceText ??= text(join(folder, 'bInterfaceNumber'));
    const vendorId = text(join(folder, 'idVendor'));
    if (vendorId !== undefined) {
      const [productId, serialNumber, manufacturer, product] = ['idProduct', 'serial', 'manufacturer', 'product'].map(
        (name) => text(join(folder, name)),
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

function text(path: string): string | undefined {
  return existsSync(path) ? attempt(() => readFileSync(path, 'utf8'))?.trim() : undefined;
}

/** Undefined where it fails: what is plugged may vanish at any moment. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
