// A growing buffer for the codecs. Positions, not pointers: the buffer may move whenever something is added.

/** Beyond this many UTF-16 units the native encoder is faster than the loop below. */
const LOOP_CHARS = 48;

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest > 0x7f; rest = Math.floor(rest / 0x80)) bytes += 1;
  return bytes;
}

export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(bytes: number) {
    this.#buffer = Buffer.allocUnsafeSlow(bytes);
  }

  get length(): number {
    return this.#length;
  }

  /** Empties it and leaves room for a header of that many bytes, zeroed. */
  reset(headerBytes: number): void {
    this.#length = 0;
    this.reserve(headerBytes);
    this.#buffer.fill(0, 0, headerBytes);
  }

  /** Adds that many bytes of any content; returns their position. */
  reserve(bytes: number): number {
    const position = this.#length;
    this.#length += bytes;
    if (this.#length > this.#buffer.length) this.#grow();
    return position;
  }

  #grow(): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#length));
    larger.set(this.#buffer);
    this.#buffer = larger;
  }

  setUint8(position: number, value: number): void {
    this.#buffer[position] = value;
  }

  setUint16(position: number, value: number): void {
    this.#buffer.writeUInt16LE(value, position);
  }

  setUint32(position: number, value: number): void {
    this.#buffer.writeUInt32LE(value, position);
  }

  setUint48(position: number, value: number): void {
    this.#buffer.writeUIntLE(value, position, 6);
  }

  setFloat64(position: number, value: number): void {
    this.#buffer.writeDoubleLE(value, position);
  }

  float64(value: number): void {
    this.setFloat64(this.reserve(8), value);
  }

  uint32(value: number): void {
    this.setUint32(this.reserve(4), value);
  }

  uint8(value: number): void {
    this.setUint8(this.reserve(1), value);
  }

  bytes(bytes: Uint8Array): void {
    const position = this.reserve(bytes.length);
    this.#buffer.set(bytes, position);
  }

  ascii(text: string): void {
    const position = this.reserve(text.length);
    const buffer = this.#buffer;
    for (let index = 0; index < text.length; index += 1) buffer[position + index] = text.charCodeAt(index);
  }

  /** A whole number from 0 to 2^53 - 1: seven bits a byte, lowest first. */
  varint(value: number): void {
    let rest = value;
    while (rest > 0x7fff_ffff) {
      this.uint8((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    while (rest > 0x7f) {
      this.uint8((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.uint8(rest);
  }

  /** A whole number of either sign; small ones are short. */
  signedVarint(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value);
  }

  /** Puts the length of what was added since `reserve(1)` gave that position there; takes it back when that is nothing. */
  endMeasured(at: number): number {
    const bytes = this.#length - at - 1;
    if (bytes === 0) this.#length = at;
    else if (bytes <= 0x7f) this.#buffer[at] = bytes;
    else {
      const from = at + 1;
      const to = at + varintBytes(bytes);
      this.reserve(to - from);
      this.#buffer.copyWithin(to, from, from + bytes);
      this.#length = at;
      this.varint(bytes);
      this.#length = to + bytes;
    }
    return bytes;
  }

  /** UTF-8 behind its length in bytes. */
  text(text: string): void {
    // Nearly all texts are short and ASCII, so that the length is one byte and known.
    const at = this.reserve(1);
    const bytes = this.#utf8(text);
    if (bytes <= 0x7f) {
      this.#buffer[at] = bytes;
      return;
    }
    this.#length = at;
    this.varint(bytes);
    this.#utf8(text);
  }

  /** Tag, length and UTF-8. */
  textField(tag: number, text: string): void {
    this.uint8(tag);
    this.text(text);
  }

  #utf8(text: string): number {
    const start = this.#length;
    if (text.length <= LOOP_CHARS) {
      const position = this.reserve(text.length);
      const buffer = this.#buffer;
      let index = 0;
      for (; index < text.length; index += 1) {
        const code = text.charCodeAt(index);
        if (code > 0x7f) break;
        buffer[position + index] = code;
      }
      if (index === text.length) return index;
      this.#length = start;
    }
    const bytes = Buffer.byteLength(text, 'utf8');
    const position = this.reserve(bytes);
    this.#buffer.write(text, position, 'utf8');
    return bytes;
  }

  /** What was written, until the next change. */
  view(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** What was written, in a buffer of its own. */
  copy(): Buffer {
    const copy = Buffer.allocUnsafeSlow(this.#length);
    copy.set(this.view());
    return copy;
  }
}
