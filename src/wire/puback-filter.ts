// Takes PUBACKs out of what a server sends before the library's parser sees them: with QoS 1 publishes they are nearly all
// that comes, four bytes each, and the parser makes a dozen objects of each one.

import type { Readable, Writable } from 'node:stream';

/** Fixed header of PUBACK (MQTT 3.1.1, 3.4.1). */
const PUBACK = 0x40;
/** Remaining lengths: the identifier alone; with a reason code (MQTT 5.0, 3.4.2.1). Others are left to the library. */
const ID_BYTES = 2;
const CODE_BYTES = 3;

type Answered = (packetId: number, reasonCode: number) => void;

/** Cuts a stream of packets into whole PUBACKs, which are told, and all the rest, which is given back as it is. */
export class PubackFilter {
  readonly #answered: Answered;
  /** Bytes of the current packet's body that are still to come. */
  #skip = 0;
  /** What one more digit of the remaining length counts (MQTT 3.1.1, 2.2.3); 0 between packets. */
  #digit = 0;
  #length = 0;

  constructor(answered: Answered) {
    this.#answered = answered;
  }

  /** What of these bytes is not a PUBACK, in order. */
  take(bytes: Buffer): readonly Buffer[] {
    const rest: Buffer[] = [];
    let from = 0;
    let at = 0;
    while (at < bytes.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, bytes.length - at);
        this.#skip -= step;
        at += step;
      } else if (this.#digit > 0) {
        this.#takeLength(bytes[at] as number);
        at += 1;
      } else {
        const packetBytes = pubackBytes(bytes, at);
        if (packetBytes === 0) {
          this.#digit = 1;
          this.#length = 0;
          at += 1;
          continue;
        }
        if (at > from) rest.push(bytes.subarray(from, at));
        const reasonCode = packetBytes === 2 + CODE_BYTES ? (bytes[at + 4] as number) : 0;
        this.#answered(bytes.readUInt16BE(at + 2), reasonCode);
        at += packetBytes;
        from = at;
      }
    }
    if (from === 0) return [bytes];
    if (at > from) rest.push(bytes.subarray(from));
    return rest;
  }

  #takeLength(byte: number): void {
    this.#length += (byte & 0x7f) * this.#digit;
    this.#digit *= 0x80;
    if (byte >= 0x80) return;
    this.#skip = this.#length;
    this.#digit = 0;
  }
}

/** Length of the PUBACK that begins there, 0 when it is none, or not whole. */
function pubackBytes(bytes: Buffer, at: number): number {
  if (bytes[at] !== PUBACK) return 0;
  const remaining = bytes[at + 1];
  if (remaining !== ID_BYTES && remaining !== CODE_BYTES) return 0;
  return at + 2 + remaining <= bytes.length ? 2 + remaining : 0;
}

/** Puts the filter between the stream and whatever it is piped into later. */
export function filterPubacks(stream: Readable, answered: Answered): void {
  const filter = new PubackFilter(answered);
  const pipe = stream.pipe.bind(stream) as (destination: Writable) => Writable;
  stream.pipe = ((destination: Writable): Writable => {
    const write = destination.write.bind(destination) as (bytes: Buffer) => boolean;
    destination.write = ((bytes: Buffer): boolean => {
      let isRoom = true;
      for (const rest of filter.take(bytes)) isRoom = write(rest);
      return isRoom;
    }) as typeof destination.write;
    return pipe(destination);
  }) as typeof stream.pipe;
}
