// The books of the stream, over all lives of the process.
//
// - A number of a partition has one message for ever, and a message one number.
// - What a reader is given has no number missing, and of each device no `seq`.
// - What a drain finds ends, for each device, with the last message that was acknowledged, or with a later one.

import type { LoadReport } from './load-protocol.ts';

type Kept = Extract<LoadReport, { 0: 'kept' }>;

/** Numbers that are remembered, more than the stream keeps. */
const REMEMBERED = 200_000;

export class StreamBook {
  readonly #fault: (text: string) => void;
  /** `partition/sequence` to `epoch/device/seq`. */
  readonly #messages = new Map<string, string>();
  /** What this life's readers were given last: by partition, and by `epoch/device`. */
  readonly #lastSequence = new Map<number, number>();
  readonly #lastSeq = new Map<string, number>();
  /** Last acknowledged `seq`, by device. */
  readonly #acknowledged = new Map<string, number>();

  constructor(fault: (text: string) => void) {
    this.#fault = fault;
  }

  acknowledge(device: string, seq: number): void {
    this.#acknowledged.set(device, Math.max(seq, this.#acknowledged.get(device) ?? 0));
  }

  read([, partition, sequence, device, seq, epoch, body]: Kept): void {
    const place = `${partition}/${sequence}`;
    const message = `${epoch}/${device}/${seq}`;
    const before = this.#messages.get(place);
    if (before !== undefined && before !== message) this.#fault(`stream: ${place} was ${before} and is now ${message}`);
    this.#messages.set(place, message);
    if (!body.startsWith(`ok ${device} `)) this.#fault(`stream: ${message} has a wrong body: ${body}`);

    const last = this.#lastSequence.get(partition);
    if (last !== undefined && sequence <= last) this.#fault(`stream: ${place} came after ${last}`);
    // A reader that is slower than the retention passes over what is gone, and only that.
    const isNext = last === undefined || sequence === last + 1;
    this.#lastSequence.set(partition, sequence);
    const lastSeq = this.#lastSeq.get(`${epoch}/${device}`);
    if (
      lastSeq !== undefined &&
      (isNext ? seq !== lastSeq + 1 && !this.#skipped.has(`${epoch}/${device}`) : seq <= lastSeq)
    ) {
      this.#fault(`stream: ${message} came after seq ${lastSeq}`);
    }
    if (!isNext) for (const source of this.#lastSeq.keys()) this.#skipped.add(source);
    this.#skipped.delete(`${epoch}/${device}`);
    this.#lastSeq.set(`${epoch}/${device}`, seq);
  }

  /** Devices of which something may have been passed over since their last message. */
  readonly #skipped = new Set<string>();

  endLife(): void {
    this.#lastSequence.clear();
    this.#lastSeq.clear();
    this.#skipped.clear();
    for (const place of this.#messages.keys()) {
      if (this.#messages.size <= REMEMBERED) break;
      this.#messages.delete(place);
    }
  }

  /** Whoever reads to the end has all that was acknowledged, where no salvage began another count. */
  endDrain(epochs: number): void {
    if (epochs === 1) {
      for (const [device, seq] of this.#acknowledged) {
        const last = [...this.#lastSeq].find(([source]) => source.endsWith(`/${device}`))?.[1] ?? 0;
        if (last < seq) this.#fault(`stream: ${device} was acknowledged up to ${seq} and is kept up to ${last}`);
      }
    }
    this.#acknowledged.clear();
  }
}
