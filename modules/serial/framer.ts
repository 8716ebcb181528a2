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
  readonly frame?: Candidate;
  /** When the checksum of the candidate is wrong, only so many bytes are taken and the search goes on in the middle of it. */
  readonly slideBytes?: number;
}

export interface Candidate {
  readonly bytes: Buffer;
  readonly payloadStart: number;
  readonly payloadEnd: number;
  /**
   * Where in the bytes the frame may begin as well, the last place first: of those with a sound checksum the shortest is the
   * frame, because an even number of equal bytes before it is nothing to an exclusive or.
   */
  readonly laterStarts?: readonly number[];
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
    const { scanner, checksum } = this.#options;
    const step = scanner.silence?.(this.#pending);
    const left = this.#pending.length;
    if (step !== undefined) this.#do(step);
    else if (left > 0) {
      this.#tell('truncated', left);
      // What began was no frame, but whole ones may stand behind: a checksum tells.
      if (checksum !== undefined) this.#searchRest();
    }
    this.reset();
  }

  /** Forgets everything that is unfinished. */
  reset(): void {
    this.#pending = Buffer.alloc(0);
    this.#quietBytes = 0;
    this.#isInGarbage = false;
    this.#options.scanner.reset?.();
  }

  /** Sound frames behind the first byte of what is pending, however much of it is needed. */
  #searchRest(): void {
    while (this.#pending.length > 0) {
      this.#options.scanner.reset?.();
      this.#quietBytes = this.#pending.length;
      this.#take(1);
      for (let step = this.#scan(); step !== undefined; step = this.#scan()) {
        // That something is wrong has been told.
        if (step.frame === undefined) this.#take(step.take);
        else this.#do(step);
      }
    }
  }

  #scan(): Step | undefined {
    return this.#pending.length === 0 ? undefined : this.#options.scanner.scan(this.#pending);
  }

  #do(step: Step): void {
    const { checksum, sink } = this.#options;
    if (step.frame === undefined) {
      const isTold = this.#quietBytes >= step.take;
      this.#take(step.take);
      if (step.fault !== undefined && !(isTold && step.fault === 'garbage')) this.#tell(step.fault, step.take);
      return;
    }
    const { bytes, payloadStart, payloadEnd, laterStarts = [] } = step.frame;
    for (const start of [...laterStarts, 0]) {
      const candidate = bytes.subarray(start);
      const checked = checksum === undefined ? { payloadEnd } : checkFrame(checksum, candidate);
      if (checked === undefined) continue;
      if (start > 0 && this.#quietBytes === 0) this.#tell('truncated', start);
      this.#take(step.take);
      this.#quietBytes = 0;
      this.#isInGarbage = false;
      const end = Math.max(payloadStart, Math.min(payloadEnd - start, checked.payloadEnd));
      sink.onFrame(Buffer.from(candidate.subarray(payloadStart, end)));
      return;
    }
    const { slideBytes } = step;
    this.#take(slideBytes ?? step.take);
    if (this.#quietBytes > 0) return;
    if (slideBytes !== undefined) this.#quietBytes = bytes.length - slideBytes;
    sink.onFault('checksum', bytes.length);
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
