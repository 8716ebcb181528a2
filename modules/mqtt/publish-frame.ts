// Finds a whole PUBLISH in the bytes of a client (MQTT 3.1.1, 3.3), without making anything of it.

/** QoS 0; QoS 1; QoS 1 sent again. Others, and what is to be retained, are the library's. */
const QOS_0 = 0x30;
const QOS_1 = 0x32;
const QOS_1_AGAIN = 0x3a;
/** Fixed header: the type, and up to four bytes of length (2.2.3). */
const LENGTH_BYTES = 4;

/** What begins there: a publish that is whole, one whose end has not come, or anything else. */
export type Found = 'publish' | 'partial' | 'other';

/** Positions within the bytes that were looked at last; valid after `publish`. */
export class PublishFrame {
  /** Packet identifier; 0 for QoS 0. */
  id = 0;
  topicFrom = 0;
  topicTo = 0;
  bodyFrom = 0;
  end = 0;

  /** Looks at the packet that begins at `from`. Longer ones than `maxBytes` are `other`. */
  find(bytes: Buffer, from: number, maxBytes: number): Found {
    const type = bytes[from];
    if (type === undefined) return 'partial';
    if (type !== QOS_0 && type !== QOS_1 && type !== QOS_1_AGAIN) return 'other';
    let length = 0;
    let at = from + 1;
    for (let digit = 0; ; digit += 1) {
      if (digit === LENGTH_BYTES) return 'other';
      const byte = bytes[at];
      if (byte === undefined) return 'partial';
      at += 1;
      length += (byte & 0x7f) * 0x80 ** digit;
      if (byte < 0x80) break;
    }
    if (length > maxBytes) return 'other';
    this.end = at + length;
    if (this.end > bytes.length) return 'partial';
    // Lengths that do not fit are the library's to refuse.
    if (length < 2) return 'other';
    this.topicFrom = at + 2;
    this.topicTo = this.topicFrom + bytes.readUInt16BE(at);
    this.bodyFrom = type === QOS_0 ? this.topicTo : this.topicTo + 2;
    if (this.bodyFrom > this.end) return 'other';
    this.id = type === QOS_0 ? 0 : bytes.readUInt16BE(this.topicTo);
    return type === QOS_0 || this.id > 0 ? 'publish' : 'other';
  }
}
