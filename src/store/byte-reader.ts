// Reads what byte-writer.ts writes. Beyond the end there are zeros: the callers compare where they arrived.

const HALF = 0x1000_0000;

export class ByteReader {
  readonly bytes: Buffer;
  position: number;

  constructor(bytes: Buffer, position: number) {
    this.bytes = bytes;
    this.position = position;
  }

  uint8(): number {
    const value = this.bytes[this.position] ?? 0;
    this.position += 1;
    return value;
  }

  /** Up to 2^53 - 1. */
  varint(): number {
    let value = 0;
    let unit = 1;
    for (;;) {
      const byte = this.uint8();
      // Bits as long as they fit: lengths and indexes are small, and this is the store's busiest loop.
      if (unit < HALF) value |= (byte & 0x7f) * unit;
      else value += (byte & 0x7f) * unit;
      if (byte <= 0x7f) return value;
      unit *= 0x80;
    }
  }

  signedVarint(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** Moves on over a varint. */
  skipVarint(): void {
    while (this.uint8() > 0x7f);
  }

  skip(bytes: number): void {
    this.position += bytes;
  }

  /** Latin-1 behind its length. */
  latin1(): string {
    const bytes = this.varint();
    this.position += bytes;
    return this.bytes.toString('latin1', this.position - bytes, this.position);
  }
}
