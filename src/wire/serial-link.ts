// Serial links on `serialport`.
//
// serialport tells why an open failed only in words, and it sets the line's parameters before it tries the lock, which
// disturbs whoever holds the port. So the cause is found from the file system, and a lock is looked up before.

import { constants } from 'node:fs';
import { open as openFile, readFile, stat } from 'node:fs/promises';
import type { SerialPort } from 'serialport';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import { throwIfAborted } from '../platform/abort.ts';
import type { Link, LinkEvents, LinkOpener } from './link.ts';

export interface SerialLinkOptions {
  readonly path: string;
  readonly baudRate: number;
  readonly dataBits: 5 | 6 | 7 | 8;
  readonly parity: 'none' | 'even' | 'odd';
  readonly stopBits: 1 | 2;
  /** Default: none. */
  readonly flowControl?: 'none' | 'rts_cts' | 'xon_xoff';
  /** Who opens it, to tell others who want it too. Default: a scan. */
  readonly adapterId?: string;
}

/** What a path names: the file system and inode of the device file. */
interface DeviceFile {
  readonly dev: number;
  readonly ino: number;
}

/** The adapter, or scan, of this process that has a device open, by its place in /proc/locks, which names the process only. */
const holders = new Map<string, string | undefined>();

export function serialLink(options: SerialLinkOptions): LinkOpener {
  const { path, baudRate, dataBits, parity, stopBits, flowControl = 'none', adapterId } = options;
  const flow = { rtscts: flowControl === 'rts_cts', xon: flowControl === 'xon_xoff', xoff: flowControl === 'xon_xoff' };
  let opened: DeviceFile | undefined;
  return {
    target: path,
    charMs: ((1 + dataBits + (parity === 'none' ? 0 : 1) + stopBits) * 1000) / baudRate,
    async isCurrent() {
      const file = await stat(path).catch(() => undefined);
      return file !== undefined && file.dev === opened?.dev && file.ino === opened.ino;
    },
    async open(events, signal) {
      const file = await findDevice(path);
      await assertNotLocked(path, file, adapterId);
      throwIfAborted(signal);
      // Loaded with the first serial port, so that a bus over TCP does not pay for it; by its default export, which is all
      // that a bundle gives of a CommonJS package.
      const { default: library } = await import('serialport');
      const port = new library.SerialPort({ path, baudRate, dataBits, parity, stopBits, ...flow, autoOpen: false });
      await new Promise<void>((resolve, reject) => {
        port.open((error) => {
          if (error === null) resolve();
          else explainFailure(path, file, adapterId, error).then(reject, reject);
        });
      });
      opened = file;
      const place = placeOf(file);
      holders.set(place, adapterId);
      const link = new SerialPortLink(port, {
        onData: (bytes) => events.onData(bytes),
        onClosed: (error) => {
          holders.delete(place);
          events.onClosed(error);
        },
      });
      if (signal.aborted) await link.close();
      throwIfAborted(signal);
      return link;
    },
  };
}

function serialFault(
  code: 'GW_SERIAL_MISSING' | 'GW_SERIAL_BUSY' | 'GW_SERIAL_DENIED',
  text: string,
  cause?: unknown,
): GatewayError {
  return new GatewayError(code, text, { cause, details: { reason: 'disconnected' } });
}

function unpluggedFault(path: string, cause: unknown): GatewayError {
  return new GatewayError('GW_DISCONNECTED', `${path} was unplugged or hung up.`, {
    cause,
    details: { reason: 'disconnected' },
  });
}

async function findDevice(path: string): Promise<DeviceFile> {
  try {
    const file = await stat(path);
    if (file.isCharacterDevice()) return file;
  } catch (error) {
    throw fileFault(path, error);
  }
  throw serialFault('GW_SERIAL_MISSING', `${path} is not a serial port. Check the path.`);
}

function fileFault(path: string, error: unknown): GatewayError {
  switch (systemCode(error)) {
    case 'EACCES':
    case 'EPERM':
      return serialFault(
        'GW_SERIAL_DENIED',
        `${path} may not be opened by this user. Add the user of the service to the group of the port (often dialout).`,
        error,
      );
    case 'EBUSY':
      return busyFault(path, undefined, error);
    default:
      return serialFault(
        'GW_SERIAL_MISSING',
        `${path} does not exist or has no device (${systemCode(error) ?? errorText(error)}). Check the cable and the path; it is opened as soon as it appears.`,
        error,
      );
  }
}

function busyFault(path: string, holder = 'another program', cause?: unknown): GatewayError {
  const text = `${path} is held by ${holder}. Stop it, or give the gateway a port of its own.`;
  return serialFault('GW_SERIAL_BUSY', text, cause);
}

/** @param holder adapter that has it; undefined: a scan. @param asker adapter that wants it; undefined: a scan. */
function ownFault(path: string, holder: string | undefined, asker: string | undefined): GatewayError {
  const advice =
    asker === undefined
      ? 'Switch that off to search there.'
      : 'One port has one adapter: put all devices of the line there.';
  const what =
    holder === undefined
      ? 'a scan of this gateway. It is opened as soon as that has ended.'
      : `adapter "${holder}" of this gateway. ${advice}`;
  return serialFault('GW_SERIAL_BUSY', `${path} is held by ${what}`);
}

/** @throws GatewayError GW_SERIAL_BUSY when somebody, ourselves included, holds a lock on the device (proc_locks(5)). */
async function assertNotLocked(path: string, file: DeviceFile, asker: string | undefined): Promise<void> {
  const place = placeOf(file);
  if (holders.has(place)) throw ownFault(path, holders.get(place), asker);
  const locks = await readFile('/proc/locks', 'utf8').catch(() => '');
  for (const line of locks.split('\n')) {
    // 1: FLOCK  ADVISORY  WRITE 708 00:18:5 0 EOF
    const [, kind, , , holder, where] = line.trim().split(/\s+/);
    if (kind === 'FLOCK' && where === place && holder !== undefined) throw busyFault(path, await programName(holder));
  }
}

/** As /proc/locks has it. */
function placeOf({ dev, ino }: DeviceFile): string {
  // glibc's makedev: 12 bits of major number between 8 + 12 bits of minor number.
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  return `${hex(major)}:${hex(minor)}:${ino}`;
}

function hex(number: number): string {
  return number.toString(16).padStart(2, '0');
}

async function programName(processId: string): Promise<string> {
  const name = await readFile(`/proc/${processId}/comm`, 'utf8').catch(() => '');
  return name === '' ? `process ${processId}` : `process ${processId} (${name.trim()})`;
}

/** Why serialport could not open the port, asked of the system itself. */
async function explainFailure(
  path: string,
  file: DeviceFile,
  adapterId: string | undefined,
  error: Error,
): Promise<GatewayError> {
  try {
    await assertNotLocked(path, file, adapterId);
    const handle = await openFile(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    await handle.close();
  } catch (reason) {
    return reason instanceof GatewayError ? reason : fileFault(path, reason);
  }
  const text = `${path} opens, but does not take the line settings (${errorText(error)}). Check that it is a serial port and the baud rate.`;
  return serialFault('GW_SERIAL_MISSING', text, error);
}

class SerialPortLink implements Link {
  readonly #port: SerialPort;
  readonly #closed: Promise<void>;
  #ours = false;

  constructor(port: SerialPort, events: LinkEvents) {
    this.#port = port;
    port.on('data', (bytes: Buffer) => {
      if (!this.#ours) events.onData(bytes);
    });
    this.#closed = new Promise<void>((resolve) => {
      const finish = (error?: Error | null): void => {
        port.off('close', finish).off('error', fail).off('end', endOfFile);
        port.on('error', () => {});
        events.onClosed(this.#ours ? undefined : unpluggedFault(port.path, error ?? undefined));
        resolve();
      };
      // serialport goes on after errors and at end of file (a hung-up line reads as one): both end the link.
      const fail = (error: Error): void => (port.isOpen ? port.close(() => {}) : finish(error));
      const endOfFile = (): void => fail(new Error('end of file'));
      port.once('close', finish).on('error', fail).once('end', endOfFile);
    });
  }

  write(bytes: Buffer): void {
    this.#port.write(bytes);
  }

  close(): Promise<void> {
    if (this.#ours) return this.#closed;
    this.#ours = true;
    if (this.#port.isOpen) this.#port.close(() => {});
    return this.#closed;
  }
}
