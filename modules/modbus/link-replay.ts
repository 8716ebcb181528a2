// A capture in place of a line: what was asked then is answered as it was then, through the same framer and decoder. Each
// request has its answers played in the order of the capture, from the beginning again after the last. What the capture
// was never asked is not answered.

import { type CaptureRecord, type Clock, type Link, type LinkEvents, type LinkOpener, readCapture } from '#sdk';

export interface ReplayLinkOptions {
  readonly path: string;
  /** Whether frames begin with a transaction id (Modbus TCP), which is new in each run. */
  readonly hasTransactionIds: boolean;
  readonly clock: Clock;
}

const TRANSACTION_ID_BYTES = 2;

export function replayLink(options: ReplayLinkOptions): LinkOpener {
  return {
    target: `replay of ${options.path}`,
    charMs: 0,
    // A file is read again with each opening; there is nothing else that it could lead to.
    isCurrent: () => Promise.resolve(true),
    async open(events) {
      return new ReplayLink(await readCapture(options.path), events, options);
    },
  };
}

class ReplayLink implements Link {
  /** By request: what came after it until the next one, each time that it was asked. */
  readonly #recorded = new Map<string, Buffer[][]>();
  readonly #next = new Map<string, number>();
  readonly #events: LinkEvents;
  readonly #options: ReplayLinkOptions;
  readonly #timers = new Set<() => void>();
  #isOpen = true;

  constructor(records: readonly CaptureRecord[], events: LinkEvents, options: ReplayLinkOptions) {
    this.#events = events;
    this.#options = options;
    let answer: Buffer[] = [];
    for (const { direction, bytes } of records) {
      if (direction === 'rx') {
        answer.push(bytes);
        continue;
      }
      answer = [];
      const key = this.#keyOf(bytes);
      const known = this.#recorded.get(key);
      if (known === undefined) this.#recorded.set(key, [answer]);
      else known.push(answer);
    }
  }

  write(bytes: Buffer): void {
    const key = this.#keyOf(bytes);
    const answers = this.#recorded.get(key);
    if (answers === undefined || !this.#isOpen) return;
    const index = this.#next.get(key) ?? 0;
    this.#next.set(key, (index + 1) % answers.length);
    const cancel = this.#options.clock.after(0, () => {
      this.#timers.delete(cancel);
      for (const [part, answer] of (answers[index] ?? []).entries()) {
        this.#events.onData(part === 0 ? this.#answerTo(bytes, answer) : Buffer.from(answer));
      }
    });
    this.#timers.add(cancel);
  }

  close(): Promise<void> {
    if (!this.#isOpen) return Promise.resolve();
    this.#isOpen = false;
    for (const cancel of this.#timers) cancel();
    this.#events.onClosed(undefined);
    return Promise.resolve();
  }

  #keyOf(request: Buffer): string {
    return request.subarray(this.#options.hasTransactionIds ? TRANSACTION_ID_BYTES : 0).toString('hex');
  }

  /** The first bytes of an answer, with the transaction id of the request that they answer now. */
  #answerTo(request: Buffer, answer: Buffer): Buffer {
    const copy = Buffer.from(answer);
    if (this.#options.hasTransactionIds) request.copy(copy, 0, 0, Math.min(TRANSACTION_ID_BYTES, copy.length));
    return copy;
  }
}
