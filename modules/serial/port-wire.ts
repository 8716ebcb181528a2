// Keeps one serial port open.
//
// Invariants
// - It is opened anew for ever: soon after it was lost, then with growing, jittered pauses; a port that is missing is looked
//   for every second, because people plug things in while they watch.
// - The path is found anew for each attempt, so that a converter may come back under another name.

import { realpath } from 'node:fs/promises';
import {
  type CaptureWriter,
  type Clock,
  errorText,
  type GatewayError,
  isGatewayError,
  jitter,
  type Link,
  type LinkOpener,
  type Logger,
  type Random,
} from '#sdk';
import { disconnectedFault } from './faults.ts';
import type { Wire, WireEvents } from './wire.ts';

export interface PortWireOptions {
  /** For people, also while the port is not there. */
  readonly target: string;
  /** How to open it now. @throws GatewayError GW_SERIAL_MISSING. */
  readonly find: () => Promise<LinkOpener>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Begins the record of what passes, where that is wished. */
  readonly openCapture?: (() => Promise<CaptureWriter>) | undefined;
}

const FIRST_RETRY_MS = 100;
const RETRY_MS = 500;
const RETRY_MAX_MS = 5000;
const MISSING_RETRY_MAX_MS = 1000;
const RETRY_SPREAD = 0.3;

interface OpenPort {
  readonly link: Link;
  readonly opener: LinkOpener;
  readonly devicePath: string;
  readonly closed: Promise<GatewayError | undefined>;
  /** Whether anything was heard on it. */
  heard: boolean;
}

export class PortWire implements Wire {
  readonly isReplay = false;
  readonly #options: PortWireOptions;
  readonly #stop = new AbortController();
  #events: WireEvents | undefined;
  #port: OpenPort | undefined;
  #error: GatewayError | undefined;
  #toldCode: string | undefined;
  #capture: CaptureWriter | undefined;
  #supervisor: Promise<void> | undefined;

  constructor(options: PortWireOptions) {
    this.#options = options;
  }

  get target(): string {
    return this.#options.target;
  }

  get isOpen(): boolean {
    return this.#port !== undefined;
  }

  get devicePath(): string | undefined {
    return this.#port?.devicePath;
  }

  get error(): GatewayError | undefined {
    return this.#error;
  }

  start(events: WireEvents): void {
    this.#events = events;
    this.#supervisor ??= this.#supervise();
  }

  write(bytes: Buffer): void {
    if (this.#port === undefined) return;
    this.#capture?.record('tx', bytes);
    this.#port.link.write(bytes);
  }

  suspect(): void {
    const port = this.#port;
    if (port === undefined) return;
    void port.opener.isCurrent().then((isCurrent) => (isCurrent ? undefined : port.link.close()));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#port?.link.close();
    await this.#supervisor;
  }

  async #supervise(): Promise<void> {
    const { signal } = this.#stop;
    this.#capture = await this.#options.openCapture?.();
    let failures = 0;
    while (!signal.aborted) {
      const port = await this.#open();
      if (port === undefined) {
        failures += 1;
      } else {
        const error = await port.closed;
        this.#port = undefined;
        failures = port.heard ? 0 : failures + 1;
        if (port.heard) this.#toldCode = undefined;
        if (!signal.aborted)
          this.#lost(error ?? disconnectedFault(`${this.target}: another device is behind the path now.`));
      }
      if (!signal.aborted) await this.#pause(failures);
    }
    await this.#capture?.close();
  }

  async #open(): Promise<OpenPort | undefined> {
    const { find, log } = this.#options;
    const { signal } = this.#stop;
    try {
      const opener = await find();
      const devicePath = await realpath(opener.target).catch(() => opener.target);
      let ended: (error: GatewayError | undefined) => void = () => {};
      const closed = new Promise<GatewayError | undefined>((resolve) => {
        ended = resolve;
      });
      const link = await opener.open(
        { onData: (bytes) => this.#received(bytes), onClosed: (error) => ended(error) },
        signal,
      );
      this.#port = { link, opener, devicePath, closed, heard: false };
      this.#error = undefined;
      log.info({ target: opener.target }, 'The serial port is open.');
      this.#events?.onOpen();
      return this.#port;
    } catch (error) {
      if (!signal.aborted) this.#lost(isGatewayError(error) ? error : disconnectedFault(errorText(error), error));
      return undefined;
    }
  }

  #received(bytes: Buffer): void {
    if (this.#port !== undefined) this.#port.heard = true;
    this.#capture?.record('rx', bytes);
    this.#events?.onData(bytes);
  }

  #lost(error: GatewayError): void {
    const { log } = this.#options;
    const fields = { target: this.target, code: error.code, error: error.message };
    // The same again and again is not news.
    if (this.#toldCode === error.code) log.debug(fields, 'The serial port is still not open.');
    else log.warn(fields, 'The serial port is not open; it is tried again.');
    this.#toldCode = error.code;
    this.#error = error;
    this.#events?.onLost(error);
  }

  async #pause(failures: number): Promise<void> {
    const { clock, random } = this.#options;
    const maxMs = this.#error?.code === 'GW_SERIAL_MISSING' ? MISSING_RETRY_MAX_MS : RETRY_MAX_MS;
    const pauseMs = failures === 0 ? FIRST_RETRY_MS : Math.min(RETRY_MS * 2 ** (failures - 1), maxMs);
    await clock.sleep(Math.min(jitter(pauseMs, RETRY_SPREAD, random), maxMs), this.#stop.signal).catch(() => {});
  }
}
