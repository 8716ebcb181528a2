// What a client sends, on its way to the broker library: measured, slowed down when it is too fast, and split between the
// short way of publishes (publish-lane.ts) and the library.
//
// Invariants
// - Packets are handled in the order in which they came: the lane takes nothing while the library works, and the library
//   gets nothing while the lane does. Each gets whole packets, or all that the client has sent of one.
// - No byte is read that has no room: the client's own buffers fill up, and it waits.
// - What waits for its turn stays in the stream, which then has not ended: a client that says goodbye and closes is heard
//   out before its connection counts as gone.

import type { Duplex } from 'node:stream';
import type { Clock } from '#sdk';
import { FrameMeter, type FrameFault } from './frame-meter.ts';
import type { PublishLane } from './publish-lane.ts';
import { TokenBucket } from './rate-limit.ts';

export interface ClientInputOptions {
  readonly clock: Clock;
  readonly maxPacketBytes: number;
  /** 0: no limit. */
  readonly maxMessagesPerSec: number;
  /** The client sent what it must not, and the stream ends. */
  readonly onFault: (fault: FrameFault) => void;
  /** The client is being slowed down; told once each time that it starts. */
  readonly onSlowed: () => void;
  /** Bytes came, whatever they are. */
  readonly onRead: () => void;
  /** Something was taken past the library. */
  readonly onHeard: () => void;
}

/** How often a client that is too fast is read from. */
const RESTS_PER_SEC = 20;

type Read = (size?: number | null) => Buffer | null;

export class ClientInput {
  readonly #stream: Duplex;
  readonly #lane: PublishLane;
  readonly #options: ClientInputOptions;
  readonly #meter: FrameMeter;
  readonly #bucket: TokenBucket;
  readonly #read: Read;
  /** The library's listener, which reads when it has nothing to do. */
  #feed: () => void = () => {};
  /** Read, and not handed on. */
  #left: Buffer | undefined;
  /** Bytes at the head of the stream that were measured already. */
  #measuredBytes = 0;
  /** The head of the stream is the library's, and the lane has not done yet. */
  #waitsForLane = false;
  #forLibrary: Buffer | null = null;
  #isLibraryAtWork: () => boolean = () => false;
  #libraryWorks = false;
  /** The library has the beginning of a packet, and gets the rest of it. */
  #librarySplit = false;
  #resting = false;
  #slowed = false;
  #pumping = false;

  /** Call it before the library has the stream, then `start`. */
  constructor(stream: Duplex, lane: PublishLane, options: ClientInputOptions) {
    this.#stream = stream;
    this.#lane = lane;
    this.#options = options;
    this.#meter = new FrameMeter(options.maxPacketBytes);
    this.#bucket = new TokenBucket(options.clock, options.maxMessagesPerSec);
    const read = stream.read.bind(stream) as Read;
    this.#read = read;
    // The library reads with null, Node itself with a number.
    stream.read = (size?: number | null): Buffer | null => (size === null ? this.#readForLibrary() : read(size));
  }

  /**
   * The library listens to the stream: from now on it is told when there is something for it. It reads by itself when it
   * has done all that it was given.
   */
  start(isLibraryAtWork: () => boolean): void {
    this.#isLibraryAtWork = isLibraryAtWork;
    const [feed] = this.#stream.listeners('readable');
    this.#feed = feed as () => void;
    this.#stream.on('readable', () => this.pump());
    this.#stream.off('readable', this.#feed);
  }

  /** Goes on, as far as there is something to do and nothing to wait for. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#step());
    this.#pumping = false;
  }

  #readForLibrary(): Buffer | null {
    const bytes = this.#forLibrary;
    this.#forLibrary = null;
    if (bytes === null) {
      this.#libraryWorks = false;
      this.pump();
    }
    return bytes;
  }

  #step(): boolean {
    if (this.#stream.destroyed) return false;
    if (this.#libraryWorks) return this.#putBack();
    if (this.#waitsForLane && !this.#lane.isIdle) return false;
    this.#waitsForLane = false;
    if (this.#left === undefined) return this.#readMore();
    const taken = this.#lane.take(this.#left);
    if (taken > 0) this.#options.onHeard();
    const left = this.#left.subarray(taken);
    this.#left = left.length === 0 ? undefined : left;
    if (this.#left === undefined) return true;
    if (this.#lane.awaitsRest(left)) return this.#readMore();
    this.#waitsForLane = !this.#lane.isIdle;
    if (this.#waitsForLane) return this.#putBack();
    this.#left = undefined;
    this.#librarySplit = this.#meter.rest !== 0;
    this.#give(left);
    return true;
  }

  #putBack(): false {
    if (this.#left === undefined) return false;
    this.#measuredBytes += this.#left.length;
    this.#stream.unshift(this.#left);
    this.#left = undefined;
    return false;
  }

  /** False when there is nothing, or nothing may be read now. */
  #readMore(): boolean {
    if (this.#resting || !this.#lane.hasRoom) return false;
    const read = this.#read();
    if (read === null) return false;
    this.#options.onRead();
    const rest = this.#librarySplit ? this.#meter.rest : 0;
    const bytes = this.#measure(read);
    if (bytes === undefined) return false;
    if (rest === 0) {
      this.#left = this.#left === undefined ? bytes : Buffer.concat([this.#left, bytes]);
      return bytes.length > 0;
    }
    // Where the rest was not known, all of it goes to the library.
    const end = rest ?? bytes.length;
    this.#left = end < bytes.length ? bytes.subarray(end) : undefined;
    this.#librarySplit = this.#left === undefined && this.#meter.rest !== 0;
    this.#give(bytes.subarray(0, end));
    return true;
  }

  /** The bytes that may be handled now, what is too much for the rate put back; undefined when the client must go. */
  #measure(read: Buffer): Buffer | undefined {
    const from = Math.min(this.#measuredBytes, read.length);
    this.#measuredBytes -= from;
    const counted = this.#meter.take(from === 0 ? read : read.subarray(from), this.#bucket.available);
    if (typeof counted === 'string') {
      this.#options.onFault(counted);
      return undefined;
    }
    this.#bucket.spend(counted);
    const end = from + this.#meter.takenBytes;
    const isTooFast = end < read.length;
    if (isTooFast) {
      this.#stream.unshift(read.subarray(end));
      this.#rest();
    }
    if (isTooFast && !this.#slowed) this.#options.onSlowed();
    this.#slowed = isTooFast;
    return isTooFast ? read.subarray(0, end) : read;
  }

  #give(bytes: Buffer): void {
    this.#forLibrary = bytes;
    this.#feed();
    this.#libraryWorks = this.#isLibraryAtWork();
  }

  /** Until the next few messages may come. */
  #rest(): void {
    const { clock, maxMessagesPerSec } = this.#options;
    this.#resting = true;
    clock.after(this.#bucket.msUntil(Math.max(1, maxMessagesPerSec / RESTS_PER_SEC)), () => {
      this.#resting = false;
      this.pump();
    });
  }
}
