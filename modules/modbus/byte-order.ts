// In which order the bytes of a value lie on the wire. A is the most significant byte of the value; the letters are
// written in the order of the wire. Registers themselves are big-endian (MODBUS Application Protocol V1.1b3, 4.2).

/** The four orders by swaps, and any order of eight bytes. */
export const BYTE_ORDER_PATTERN = /^(?:ABCD|CDAB|BADC|DCBA|(?!.*([A-H]).*\1)[A-H]{8})$/;

/**
 * For each byte of the value, the most significant first, its index on the wire.
 *
 * The first swap is of words, the second of bytes in a word: ABCD none, CDAB words, BADC bytes, DCBA both. On 64 bits
 * CDAB means all words reversed (GHEFCDAB); on 16 bits only the swap of bytes remains.
 *
 * @param order one of `BYTE_ORDER_PATTERN`; eight letters only for 8 bytes
 * @param bytes 2, 4 or 8
 */
export function wireIndexes(order: string, bytes: 2 | 4 | 8): readonly number[] {
  if (order.length === 8) {
    if (bytes !== 8) throw new RangeError(`byte order ${order} is for 64 bits, the value has ${bytes * 8}`);
    return Array.from('ABCDEFGH', (letter) => order.indexOf(letter));
  }
  const swapWords = order === 'CDAB' || order === 'DCBA';
  const swapBytes = swapsBytes(order);
  const words = bytes / 2;
  return Array.from({ length: bytes }, (_, index) => {
    const word = Math.floor(index / 2);
    const byte = index % 2;
    return (swapWords ? words - 1 - word : word) * 2 + (swapBytes ? 1 - byte : byte);
  });
}

/** Whether the low byte of each register goes first; what remains of an order on 16 bits and in strings. */
export function swapsBytes(order: string): boolean {
  return order === 'BADC' || order === 'DCBA';
}
