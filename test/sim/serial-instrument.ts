// An instrument on a serial port: it answers requests that end with CR LF, or speaks by itself, no faster than its baud
// rate lets it. What it says is a function, so that a test can make it misbehave.

import type { SerialPort } from 'serialport';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeEnd, openEnd } from '../support/serial-line.ts';

export interface InstrumentOptions {
  readonly path: string;
  /** Default 9600: 10 bits a character. */
  readonly baudRate?: number;
  /** The answer to a request, without its CR LF; undefined: none. */
  readonly answer: (request: string) => Buffer | string | undefined;
}

/** Bytes that go out together, as a UART's FIFO has them. */
const FIFO_BYTES = 16;
const BITS_PER_CHAR = 10;

export class SerialInstrument implements AsyncDisposable {
  /** May be replaced while it runs. */
  answer: InstrumentOptions['answer'];
  readonly requests: string[] = [];
  readonly #port: SerialPort;
  readonly #charMs: number;
  #pending = '';
  #sending: Promise<void> = Promise.resolve();

  private constructor(port: SerialPort, { baudRate = 9600, answer }: InstrumentOptions) {
    this.#port = port;
    this.#charMs = (BITS_PER_CHAR * 1000) / baudRate;
    this.answer = answer;
    port.on('error', () => {});
    port.on('data', (bytes: Buffer) => this.#hear(bytes.toString('latin1')));
  }

  static async open(options: InstrumentOptions): Promise<SerialInstrument> {
    return new SerialInstrument(await openEnd(options.path), options);
  }

  /** Sends bytes at the pace of the line; resolves when the last one is out. */
  say(bytes: Buffer | string): Promise<void> {
    const whole = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    this.#sending = this.#sending.then(async () => {
      for (let start = 0; start < whole.length && this.#port.isOpen; start += FIFO_BYTES) {
        const part = whole.subarray(start, start + FIFO_BYTES);
        this.#port.write(part);
        await sleep(part.length * this.#charMs);
      }
    });
    return this.#sending;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeEnd(this.#port);
    await this.#sending;
  }

  #hear(text: string): void {
    this.#pending += text;
    for (let end = this.#pending.indexOf('\r\n'); end >= 0; end = this.#pending.indexOf('\r\n')) {
      const request = this.#pending.slice(0, end);
      this.#pending = this.#pending.slice(end + 2);
      this.requests.push(request);
      const answer = this.answer(request);
      if (answer !== undefined) void this.say(answer);
    }
  }
}
