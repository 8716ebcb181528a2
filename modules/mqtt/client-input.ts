// What a client sends, on its way to the broker library: measured, slowed down when it is too fast, and split between the
// short way of publishes (publish-lane.ts) and the library.
//
// Invariants
// - Packets are handled in the order in which they came: the lane takes nothing while the library works, and the library
//   gets nothing while the lane does. Each gets whole packets, or all that the client has sent of one.
// - No byte is read that has no room: the client's own buffers fill up, and it waits.

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
  /** Something was taken past the library. */
  readonly onHeard: () => void;
}

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
    if (this.#stream.destroyed || this.#libraryWorks) return false;
    if (this.#left === undefined) return this.#readMore();
    const taken = this.#lane.take(this.#left);
    if (taken > 0) this.#options.onHeard();
    const left = this.#left.subarray(taken);
    this.#left = left.length === 0 ? undefined : left;
    if (this.#left === undefined) return true;
    if (this.#lane.awaitsRest(left)) return this.#readMore();
    if (!this.#lane.isIdle) return false;
    this.#left = undefined;
    this.#librarySplit = this.#meter.rest !== 0;
    this.#give(left);
    return true;
  }

  /** False when there is nothing, or nothing may be read now. */
  #readMore(): boolean {
    if (this.#resting || !this.#lane.hasRoom) return false;
    const bytes = this.#read();
    if (bytes === null) return false;
    const rest = this.#librarySplit ? (this.#meter.rest ?? bytes.length) : 0;
    const counted = this.#meter.take(bytes);
    if (typeof counted === 'string') {
      this.#options.onFault(counted);
      return false;
    }
    this.#slowDown(counted);
    if (rest === 0) {
      this.#left = this.#left === undefined ? bytes : Buffer.concat([this.#left, bytes]);
      return true;
    }
    this.#left = rest < bytes.length ? bytes.subarray(rest) : undefined;
    // Where the rest was not known, all of it goes to the library.
    this.#librarySplit = this.#left === undefined && this.#meter.rest !== 0;
    this.#give(bytes.subarray(0, rest));
    return true;
  }

  #give(bytes: Buffer): void {
    this.#forLibrary = bytes;
    this.#feed();
    this.#libraryWorks = this.#isLibraryAtWork();
  }

  #slowDown(messages: number): void {
    const { clock, maxMessagesPerSec, onSlowed } = this.#options;
    const restMs = maxMessagesPerSec === 0 ? 0 : this.#bucket.take(messages);
    if (restMs > 0 && !this.#slowed) onSlowed();
    this.#slowed = restMs > 0;
    if (!this.#slowed) return;
    this.#resting = true;
    clock.after(restMs, () => {
      this.#resting = false;
      this.pump();
    });
  }
}
