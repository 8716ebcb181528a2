// Tokens of a route's condition (Azure IoT Hub routing query language; contract/service-08, section 3).

export type Token =
  | { readonly kind: 'number'; readonly value: number; readonly at: number }
  | { readonly kind: 'string'; readonly value: string; readonly at: number }
  | { readonly kind: 'name'; readonly value: string; readonly at: number }
  | { readonly kind: 'symbol'; readonly value: string; readonly at: number }
  | { readonly kind: 'end'; readonly value: ''; readonly at: number };

/** A fault in a condition; `at` is the zero-based character position. */
export class ConditionError extends Error {
  readonly at: number;

  constructor(message: string, at: number) {
    super(message);
    this.name = 'ConditionError';
    this.at = at;
  }
}

const SPACE = /\s+/y;
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const TEXT = /'((?:[^']|'')*)'|"((?:[^"]|"")*)"/y;
// Bare names may not hold white space or any of ( ) < > @ , ; : \ " / [ ] ? = { }; operators end a name as well.
const NAME = /\$?[A-Za-z_][A-Za-z0-9_.$-]*/y;
const SYMBOL = /!=|<>|<=|>=|[=<>(),[\]]/y;

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text) ?? undefined;
}

/** @throws ConditionError at the first character that begins no token. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const space = match(SPACE, text, at);
    if (space) {
      at += space[0].length;
      continue;
    }
    const number = match(NUMBER, text, at);
    const string = match(TEXT, text, at);
    const name = match(NAME, text, at);
    const symbol = match(SYMBOL, text, at);
    if (string) {
      const quote = string[0].charAt(0);
      tokens.push({ kind: 'string', value: (string[1] ?? string[2] ?? '').replaceAll(quote + quote, quote), at });
    } else if (number) tokens.push({ kind: 'number', value: Number(number[0]), at });
    else if (name) tokens.push({ kind: 'name', value: name[0], at });
    else if (symbol) tokens.push({ kind: 'symbol', value: symbol[0], at });
    else throw new ConditionError(`"${text.charAt(at)}" cannot stand here`, at);
    at += (string ?? number ?? name ?? symbol)?.[0].length ?? 1;
  }
  tokens.push({ kind: 'end', value: '', at: text.length });
  return tokens;
}
