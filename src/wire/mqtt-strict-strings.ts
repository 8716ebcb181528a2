// Strings that MQTT forbids: what is no UTF-8, and what holds U+0000. A server must close the connection of whoever sends
// them (MQTT 3.1.1, 1.5.3-1 and 1.5.3-2); the library's parser lets them pass, and a client that is then sent such a topic
// ends its connection, again and again.

import { isUtf8 } from 'node:buffer';

/** What is used of the library's parser of a client and of mqtt-packet's `Parser` (aedes 1.2, mqtt-packet 9.0). */
interface ParserInside {
  _pos: number;
  readonly _list: { slice(from: number, to: number): Uint8Array };
  readonly error: Error | null;
  _parseString(): string | null;
  _emitError(error: Error): void;
}

const LENGTH_BYTES = 2;
/** What the parser makes of bytes that are no UTF-8; it may have been sent as well. */
const REPLACEMENT = '\uFFFD';

/**
 * From now on a packet of the client with such a string is a fault of it, whatever the string is for.
 * @param client what \`aedes\` made of a connection
 * @param fault the error that its connection ends with
 */
export function refuseBadStrings(client: object, fault: () => Error): void {
  const parser = (client as { readonly _parser: ParserInside })._parser;
  const parseString = parser._parseString.bind(parser);
  parser._parseString = () => {
    const from = parser._pos + LENGTH_BYTES;
    const text = parseString();
    if (text === null || parser.error !== null) return text;
    const isBad = text.includes('\0') || (text.includes(REPLACEMENT) && !isUtf8(parser._list.slice(from, parser._pos)));
    if (isBad) parser._emitError(fault());
    return text;
  };
}
