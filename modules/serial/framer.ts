// Finds frames in a stream of bytes, however they are cut into reads.
//
// Invariants
// - Never more is kept than the longest frame with its marks: what does not end is thrown away, told as `oversized`, and
//   the next frame is found.
// - The same bytes give the same frames and faults whatever the reads (the kind `silence` excepted: it is made of time).
// - No clock: whoever feeds it says when the line was silent for `silenceMs`.

import { checkFrame, type ChecksumSettings } from './checksum.ts';

/** Why bytes were thrown away; the stable word for counts and qualities. */
export type FrameFault = 'checksum' | 'oversized' | 'truncated' | 'garbled' | 'garbage';

export interface FrameSink {
  /** What a sound frame carries: without its marks and its checksum. The bytes are the receiver's own. */
  onFrame(payload: Buffer): void;
  /** `bytes` were thrown away. `garbage`, bytes between frames, is told once until the next sound frame. */
  onFault(reason: FrameFault, bytes: number): void;
}

/** What to do with the bytes at hand. */
export interface Step {
  /** So many bytes are done with; at least 1. */
  readonly take: number;
  readonly fault?: FrameFault;
  /** A candidate: all its bytes, which the checksum is made of, and where its payload stands in them. */
  readonly frame?: { readonly bytes: Buffer; readonly payloadStart: number; readonly payloadEnd: number };
  /** When the checksum of the candidate is wrong, only one byte is taken and the search goes on in the middle of it. */
  readonly slides?: boolean;
}

/** One kind of framing. */
export interface FrameScanner {
  /** Undefined: more bytes are needed. Never keeps more than the longest frame and its marks waiting. */
  scan(bytes: Buffer): Step | undefined;
  /** Silence: what of the waiting bytes is a frame; undefined when they are none. Forgets where it was. */
  silence?(bytes: Buffer): Step | undefined;
  /** Forgets where it was. */
  reset?(): void;
}

export interface FramerOptions {
  readonly scanner: FrameScanner;
  readonly checksum: ChecksumSettings | undefined;
  readonly silenceMs: number;
  readonly sink: FrameSink;
}

/** Bytes looked at together, so that a large read costs no large copy. */
const SLICE_BYTES = 4096;

export class Framer {
  /** After this much silence `silence()` is to be called. */
  readonly silenceMs: number;
  readonly #options: FramerOptions;
  #pending: Buffer = Buffer.alloc(0);
  /** Bytes for which no further fault is told: they belong to one that was. */
  #quietBytes = 0;
  #isInGarbage = false;

  constructor(options: FramerOptions) {
    this.#options = options;
    this.silenceMs = options.silenceMs;
  }

  /** Bytes of an unfinished frame. */
  get pendingBytes(): number {
    return this.#pending.length;
  }

  push(bytes: Buffer): void {
    for (let start = 0; start < bytes.length; start += SLICE_BYTES) {
      this.#pending = Buffer.concat([this.#pending, bytes.subarray(start, start + SLICE_BYTES)]);
      for (let step = this.#scan(); step !== undefined; step = this.#scan()) this.#do(step);
    }
  }

  /** The line was silent for `silenceMs`: an unfinished frame will not be finished. */
  silence(): void {
    const { scanner } = this.#options;
    const step = scanner.silence?.(this.#pending);
    const left = this.#pending.length;
    if (step !== undefined) this.#do(step);
    else if (left > 0) this.#do({ take: left, fault: 'truncated' });
    this.reset();
  }

  /** Forgets everything that is unfinished. */
  reset(): void {
    this.#pending = Buffer.alloc(0);
    this.#quietBytes = 0;
    this.#isInGarbage = false;
    this.#options.scanner.reset?.();
  }

  #scan(): Step | undefined {
    return this.#pending.length === 0 ? undefined : this.#options.scanner.scan(this.#pending);
  }

  #do(step: Step): void {
    const { checksum, sink } = this.#options;
    if (step.frame === undefined) {
      this.#take(step.take);
      if (step.fault !== undefined) this.#tell(step.fault, step.take);
      return;
    }
    const { bytes, payloadStart, payloadEnd } = step.frame;
    const checked = checksum === undefined ? { payloadEnd } : checkFrame(checksum, bytes);
    if (checked === undefined) {
      this.#take(step.slides === true ? 1 : step.take);
      if (this.#quietBytes > 0) return;
      if (step.slides === true) this.#quietBytes = bytes.length - 1;
      sink.onFault('checksum', bytes.length);
      return;
    }
    this.#take(step.take);
    this.#quietBytes = 0;
    this.#isInGarbage = false;
    const end = Math.max(payloadStart, Math.min(payloadEnd, checked.payloadEnd));
    sink.onFrame(Buffer.from(bytes.subarray(payloadStart, end)));
  }

  #take(count: number): void {
    this.#pending = this.#pending.subarray(count);
    this.#quietBytes = Math.max(0, this.#quietBytes - count);
  }

  #tell(fault: FrameFault, bytes: number): void {
    if (fault === 'garbage') {
      if (this.#isInGarbage || this.#quietBytes > 0) return;
      this.#isInGarbage = true;
    }
    this.#options.sink.onFault(fault, bytes);
  }
}
