// Bytes in a configuration: text, one byte a character (YAML's "\r\n" and "\x02" do the escapes), or hexadecimal.

export type BytesConfig = string | { readonly hex: string };

export const HEX_PATTERN = /^\s*(?:[0-9A-Fa-f]{2}\s*)+$/;

/** Latin-1: a character is a byte. */
export function isLatin1(text: string): boolean {
  return Buffer.from(text, 'latin1').toString('latin1') === text;
}

/** The bytes; what is written is checked by the schema. */
export function bytesOf(config: BytesConfig): Buffer {
  return typeof config === 'string'
    ? Buffer.from(config, 'latin1')
    : Buffer.from(config.hex.replaceAll(/\s/g, ''), 'hex');
}
