// A sysfs tree and device directory with USB converters in them, laid out as the kernel and udev lay them out.

import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface FakeConverter {
  /** `ttyUSB0` (a usb-serial driver) or `ttyACM0` (CDC ACM); their links differ. */
  readonly name: string;
  /** Where it is plugged in: `1-1.2`. */
  readonly usbPath: string;
  readonly vendorId: string;
  readonly productId: string;
  /** Cheap converters have none. */
  readonly serialNumber?: string;
  readonly interfaceNumber?: number;
  readonly driver?: string;
  /** What `/dev/NAME` leads to. */
  readonly device?: string;
  readonly byIdName?: string;
}

export interface UsbSerialTree {
  readonly sysDirectory: string;
  readonly devDirectory: string;
  plug(converter: FakeConverter): void;
  /** All that `plug` made of it vanishes. */
  unplug(converter: FakeConverter): void;
  /** A port of the board: type 0 is one that is not there (PORT_UNKNOWN of linux/serial_core.h). */
  addBoardPort(name: string, type: number): void;
}

export function usbSerialTree(directory: string): UsbSerialTree {
  const sysDirectory = join(directory, 'sys');
  const devDirectory = join(directory, 'dev');
  const classFolder = join(sysDirectory, 'class', 'tty');
  const byIdFolder = join(devDirectory, 'serial', 'by-id');
  mkdirSync(classFolder, { recursive: true });
  mkdirSync(byIdFolder, { recursive: true });

  function folders({ name, usbPath, interfaceNumber = 0 }: FakeConverter) {
    const usb = join(sysDirectory, 'devices', 'pci0000:00', 'usb1', usbPath);
    const part = join(usb, `${usbPath}:1.${interfaceNumber}`);
    const isUsbSerial = name.startsWith('ttyUSB');
    // Ports of usb-serial drivers are devices of their own below the interface; those of CDC ACM are the interface.
    const device = isUsbSerial ? join(part, name) : part;
    return { usb, part, device, entry: join(device, 'tty', name) };
  }

  return {
    sysDirectory,
    devDirectory,
    plug(converter) {
      const { name, vendorId, productId, serialNumber, interfaceNumber = 0, driver, device, byIdName } = converter;
      const places = folders(converter);
      mkdirSync(places.entry, { recursive: true });
      const put = (folder: string, file: string, text: string): void => writeFileSync(join(folder, file), `${text}\n`);
      put(places.usb, 'idVendor', vendorId);
      put(places.usb, 'idProduct', productId);
      if (serialNumber !== undefined) put(places.usb, 'serial', serialNumber);
      put(places.part, 'bInterfaceNumber', interfaceNumber.toString(16).padStart(2, '0'));
      symlinkSync(places.device, join(places.entry, 'device'));
      if (driver !== undefined) symlinkSync(`../drivers/${driver}`, join(places.device, 'driver'));
      symlinkSync(places.entry, join(classFolder, name));
      if (device !== undefined) symlinkSync(device, join(devDirectory, name));
      if (byIdName !== undefined) symlinkSync(`../../${name}`, join(byIdFolder, byIdName));
    },
    unplug(converter) {
      const { name, byIdName } = converter;
      const places = folders(converter);
      for (const path of [join(classFolder, name), join(devDirectory, name)]) rmSync(path, { force: true });
      if (byIdName !== undefined) rmSync(join(byIdFolder, byIdName), { force: true });
      rmSync(places.usb, { recursive: true, force: true });
    },
    addBoardPort(name, type) {
      const device = join(sysDirectory, 'devices', 'platform', `${name}-uart`);
      const entry = join(device, 'tty', name);
      mkdirSync(entry, { recursive: true });
      writeFileSync(join(entry, 'type'), `${type}\n`);
      symlinkSync(device, join(entry, 'device'));
      symlinkSync(entry, join(classFolder, name));
    },
  };
}
