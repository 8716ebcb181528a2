// How a character is laid out on the line, in the short form that people and manuals use: `8N1`, `7E1`.

export interface LineFormat {
  readonly dataBits: 7 | 8;
  readonly parity: 'none' | 'even' | 'odd';
  readonly stopBits: 1 | 2;
}

const PARITY = { N: 'none', E: 'even', O: 'odd' } as const;

/** The text must be of the form `8N1`: 7 or 8 data bits, parity N, E or O, 1 or 2 stop bits. */
export const LINE_FORMAT = /^[78][NEO][12]$/;

export function parseLineFormat(text: string): LineFormat {
  const parity = PARITY[text[1] as keyof typeof PARITY];
  return { dataBits: text.startsWith('7') ? 7 : 8, parity, stopBits: text.endsWith('2') ? 2 : 1 };
}

export function lineFormatText({ dataBits, parity, stopBits }: { dataBits: number; parity: string; stopBits: number }) {
  return `${dataBits}${parity.slice(0, 1).toUpperCase()}${stopBits}`;
}
