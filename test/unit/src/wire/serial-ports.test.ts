import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findPort, targetOf } from '../../../../modules/serial/find-port.ts';
import { serialConfig } from '../../../../modules/serial/config.ts';
import { listSerialPorts, matchingPorts, serialPortClaim, usbPortClaim } from '../../../../src/wire/serial-ports.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { type FakeConverter, type UsbSerialTree, usbSerialTree } from '../../../support/usb-serial-tree.ts';

const FTDI: FakeConverter = {
  name: 'ttyUSB0',
  usbPath: '1-1.2',
  vendorId: '0403',
  productId: '6001',
  serialNumber: 'A10K4F',
  driver: 'ftdi_sio',
  byIdName: 'usb-FTDI_FT232R_USB_UART_A10K4F-if00-port0',
};
const QUAD = { usbPath: '1-1.3', vendorId: '0403', productId: '6011', serialNumber: 'Q7', driver: 'ftdi_sio' };
const ARDUINO: FakeConverter = { name: 'ttyACM0', usbPath: '1-1.4', vendorId: '2341', productId: '0043' };

const CONTEXT = { adapterId: 'scale-1', dataDirectory: '/data' };

let directory: TempDir;
let tree: UsbSerialTree;

beforeEach(() => {
  directory = createTempDir('sysfs');
  tree = usbSerialTree(directory.path);
});

afterEach(() => directory.remove());

const list = () => listSerialPorts(tree);
const device = (name: string): string => join(tree.devDirectory, name);

describe('the list of serial ports', () => {
  it('tells what converters say of themselves, by the numbers of their names', async () => {
    tree.plug({ ...QUAD, name: 'ttyUSB10', interfaceNumber: 11 });
    tree.plug({ ...QUAD, name: 'ttyUSB2', usbPath: '1-1.5' });
    tree.plug(FTDI);
    tree.plug(ARDUINO);
    expect(list()).toEqual([
      { path: device('ttyACM0'), vendorId: '2341', productId: '0043', interfaceNumber: 0 },
      {
        path: device('ttyUSB0'),
        byIdPath: device('serial/by-id/usb-FTDI_FT232R_USB_UART_A10K4F-if00-port0'),
        driver: 'ftdi_sio',
        vendorId: '0403',
        productId: '6001',
        serialNumber: 'A10K4F',
        interfaceNumber: 0,
      },
      expect.objectContaining({ path: device('ttyUSB2'), serialNumber: 'Q7' }),
      expect.objectContaining({ path: device('ttyUSB10'), interfaceNumber: 11 }),
    ]);
  });

  it('has the ports of the board that are there, and no virtual terminals', async () => {
    tree.addBoardPort('ttyS0', 4);
    tree.addBoardPort('ttyS1', 0);
    directory.directory('sys', 'class', 'tty', 'tty1');
    expect(list()).toEqual([{ path: device('ttyS0') }]);
  });

  it('is empty without sysfs', async () => {
    expect(listSerialPorts({ sysDirectory: directory.file('none') })).toEqual([]);
  });
});

describe('a selector', () => {
  it.each([
    ['the vendor', { vendorId: '2341' }, ['ttyACM0']],
    ['vendor and product', { vendorId: '0403', productId: '6001' }, ['ttyUSB0']],
    ['a serial number', { vendorId: '0403', serialNumber: 'A10K4F' }, ['ttyUSB0']],
    ['an interface of a converter with several', { vendorId: '0403', interfaceNumber: 1 }, ['ttyUSB2']],
    ['too little', { vendorId: '0403' }, ['ttyUSB0', 'ttyUSB1', 'ttyUSB2']],
    ['a serial number in another case: those are texts', { vendorId: '0403', serialNumber: 'a10k4f' }, []],
    ['a serial number where the converter has none', { vendorId: '2341', serialNumber: '1' }, []],
  ])('finds by %s', async (_what, selector, names) => {
    for (const converter of [FTDI, ARDUINO]) tree.plug(converter);
    tree.plug({ ...QUAD, name: 'ttyUSB1', interfaceNumber: 0 });
    tree.plug({ ...QUAD, name: 'ttyUSB2', interfaceNumber: 1 });
    expect(matchingPorts(list(), selector).map(({ path }) => path)).toEqual(names.map(device));
  });

  it('compares hexadecimal digits in any case', async () => {
    tree.plug({ ...ARDUINO, vendorId: '1a86', productId: '55d4' });
    expect(matchingPorts(list(), { vendorId: '1A86', productId: '55D4' })).toHaveLength(1);
  });
});

describe('the port of a configuration', () => {
  const usb = { vendor_id: '0403', product_id: '6001', serial_number: 'A10K4F' };
  const find = (selector: object) => findPort(serialConfig.parse({ usb: selector, devices: {} }), CONTEXT, tree);

  it('is found wherever the converter is plugged in and whatever it is called then', async () => {
    tree.plug(FTDI);
    expect((await find(usb)).target).toBe(device('ttyUSB0'));
    tree.unplug(FTDI);
    tree.plug({ ...FTDI, serialNumber: 'B2', byIdName: 'usb-FTDI_FT232R_USB_UART_B2-if00-port0' });
    tree.plug({ ...FTDI, name: 'ttyUSB5', usbPath: '1-2' });
    expect((await find(usb)).target).toBe(device('ttyUSB5'));
  });

  it('that is not there, or could be several, is told with what to do', async () => {
    await expect(find(usb)).rejects.toMatchObject({
      code: 'GW_SERIAL_MISSING',
      message:
        'There is no serial port of USB 0403:6001 serial number A10K4F. Check the cable; it is opened as soon as it appears.',
    });
    tree.plug({ ...QUAD, name: 'ttyUSB1', interfaceNumber: 0 });
    tree.plug({ ...QUAD, name: 'ttyUSB2', interfaceNumber: 1 });
    await expect(find({ vendor_id: '0403', serial_number: 'Q7' })).rejects.toMatchObject({
      code: 'GW_SERIAL_MISSING',
      message: `USB 0403:* serial number Q7 means several ports (${device('ttyUSB1')}, ${device('ttyUSB2')}). Add serial_number or interface_number.`,
    });
    expect((await find({ vendor_id: '0403', serial_number: 'Q7', interface_number: 1 })).target).toBe(
      device('ttyUSB2'),
    );
  });

  it('as a path may be relative to the data directory', async () => {
    const path = (text: string) => findPort(serialConfig.parse({ path: text, devices: {} }), CONTEXT);
    expect((await path('scale')).target).toBe('/data/scale');
    expect((await path('/dev/ttyUSB0')).target).toBe('/dev/ttyUSB0');
    expect(targetOf(serialConfig.parse({ usb: { vendor_id: '0403', interface_number: 1 }, devices: {} }))).toBe(
      'USB 0403:* interface 1',
    );
  });
});

describe('the claim to a port', () => {
  const usb = (selector: object) => usbPortClaim(['usb'], { vendorId: '0403', ...selector }, tree).key;

  it('is the same by path, by id and by any USB selector that means it now', () => {
    tree.plug(FTDI);
    tree.plug({ ...QUAD, name: 'ttyUSB1', interfaceNumber: 0 });
    tree.plug({ ...QUAD, name: 'ttyUSB2', interfaceNumber: 1 });
    writeFileSync(device('ttyUSB0'), '');
    const { key } = serialPortClaim(['path'], device('ttyUSB0'));
    expect(serialPortClaim(['path'], `serial/by-id/${FTDI.byIdName}`, tree.devDirectory).key).toBe(key);
    expect([usb({ productId: '6001' }), usb({ serialNumber: 'A10K4F' })]).toEqual([key, key]);
    expect(usb({ productId: '6011', interfaceNumber: 1 })).toBe(serialPortClaim(['path'], device('ttyUSB2')).key);
    // Several ports, and none.
    const own = [usb({}), usb({ productId: '6011' }), usb({ productId: '6015' })];
    expect(new Set([key, ...own]).size).toBe(4);
  });
});
