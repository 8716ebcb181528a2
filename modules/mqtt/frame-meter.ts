// Watches the bytes that a client sends, before the broker's parser sees them: bounds the size of packets, which the
// parser would gather without end, and counts messages against the client's rate.

/** Packet type PUBLISH (MQTT 3.1.1, 2.2.1). */
const PUBLISH = 3;
const CONNECT = 1;
/** CONNECT, PUBLISH to PUBREL and PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT; the others are a server's, or none. */
const OF_CLIENTS: ReadonlySet<number> = new Set([CONNECT, PUBLISH, 4, 5, 6, 7, 8, 10, 12, 14]);

export type FrameFault = 'packet_too_large' | 'malformed_packet' | 'no_connect';

export class FrameMeter {
  readonly #maxPacketBytes: number;
  /** Bytes of the current packet's body that are still to come. */
  #skip = 0;
  /** Within a fixed header: its type, and the remaining length so far. */
  #type: number | undefined;
  #length = 0;
  #lengthBytes = 0;
  #first = true;
  #taken = 0;

  constructor(maxPacketBytes: number) {
    this.#maxPacketBytes = maxPacketBytes;
  }

  /** Bytes of the current packet that are still to come, undefined within its fixed header; 0 between packets. */
  get rest(): number | undefined {
    return this.#type === undefined ? this.#skip : undefined;
  }

  /** How many bytes of the last ones it took. */
  get takenBytes(): number {
    return this.#taken;
  }

  /** The messages that begin in these bytes, or why the client must go. It stops before a message more than `most`. */
  take(bytes: Uint8Array, most: number): number | FrameFault {
    let messages = 0;
    let at = 0;
    this.#taken = bytes.length;
    while (at < bytes.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, bytes.length - at);
        this.#skip -= step;
        at += step;
        continue;
      }
      const byte = bytes[at] ?? 0;
      at += 1;
      if (this.#type === undefined) {
        this.#type = byte >> 4;
        // The first packet must be CONNECT (3.1.0-1): what is not MQTT at all ends here.
        if (this.#first && this.#type !== CONNECT) return 'no_connect';
        this.#first = false;
        if (!OF_CLIENTS.has(this.#type)) return 'malformed_packet';
        if (this.#type === PUBLISH) {
          if (messages === most) {
            this.#type = undefined;
            this.#taken = at - 1;
            break;
          }
          messages += 1;
        }
        this.#length = 0;
        this.#lengthBytes = 0;
        continue;
      }
      this.#length += (byte & 0x7f) * 128 ** this.#lengthBytes;
      this.#lengthBytes += 1;
      if (byte >= 0x80) {
        // At most four bytes (2.2.3).
        if (this.#lengthBytes === 4) return 'malformed_packet';
        continue;
      }
      if (this.#length > this.#maxPacketBytes) return 'packet_too_large';
      this.#type = undefined;
      this.#skip = this.#length;
    }
    return messages;
  }
}
