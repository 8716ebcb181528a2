// Conditions of routes: Azure IoT Hub's routing query language (contract/service-08, section 3) over application and
// system properties. Compiled once to closures; undefined counts as false. Message bodies and twins are refused by name.

import { LIMITS } from '../core/limits.ts';
import type { Message } from '../core/message.ts';
import { ConditionError, tokenize, type Token } from './condition-lexer.ts';

type Value = string | number | boolean | undefined;
type Evaluate = (message: Message) => Value;

/** True when the message is to take the route. */
export type Condition = (message: Message) => boolean;

/** Names after `$`, lower case, as a route may ask for them. */
const SYSTEM_PROPERTIES: ReadonlyMap<string, Evaluate> = new Map<string, Evaluate>([
  ['connectiondeviceid', (message) => message.deviceId],
  ['connectionmoduleid', (message) => message.moduleId],
  ['contenttype', (message) => message.systemProperties.contentType],
  ['contentencoding', (message) => message.systemProperties.contentEncoding],
  ['correlationid', (message) => message.systemProperties.correlationId],
  ['messageid', (message) => message.systemProperties.messageId],
  ['userid', (message) => message.systemProperties.userId],
]);

const FUNCTIONS: Readonly<Record<string, { readonly arity: number; readonly apply: (...values: Value[]) => Value }>> = {
  AS_NUMBER: { arity: 1, apply: asNumber },
  CONTAINS: { arity: 2, apply: (text, part) => onStrings(text, part, (a, b) => a.includes(b)) },
  ENDS_WITH: { arity: 2, apply: (text, part) => onStrings(text, part, (a, b) => a.endsWith(b)) },
  IS_BOOL: { arity: 1, apply: (value) => typeof value === 'boolean' },
  IS_DEFINED: { arity: 1, apply: (value) => value !== undefined },
  IS_NUMBER: { arity: 1, apply: (value) => typeof value === 'number' },
  IS_STRING: { arity: 1, apply: (value) => typeof value === 'string' },
  LENGTH: { arity: 1, apply: (text) => (typeof text === 'string' ? text.length : undefined) },
  LOWER: { arity: 1, apply: (text) => (typeof text === 'string' ? text.toLowerCase() : undefined) },
  STARTS_WITH: { arity: 2, apply: (text, part) => onStrings(text, part, (a, b) => a.startsWith(b)) },
  UPPER: { arity: 1, apply: (text) => (typeof text === 'string' ? text.toUpperCase() : undefined) },
};

const COMPARISONS: Readonly<Record<string, (a: string | number | boolean, b: string | number | boolean) => boolean>> = {
  '=': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '<>': (a, b) => a !== b,
  '<': (a, b) => a < b,
  '<=': (a, b) => a <= b,
  '>': (a, b) => a > b,
  '>=': (a, b) => a >= b,
};

function asNumber(value: Value): Value {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string' || value.trim() === '') return undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : undefined;
}

function onStrings(a: Value, b: Value, apply: (a: string, b: string) => boolean): Value {
  return typeof a === 'string' && typeof b === 'string' ? apply(a, b) : undefined;
}

/** Application property names are case-insensitive for routing (contract/device-semantics.md, section 1). */
function applicationProperty(name: string): Evaluate {
  const lower = name.toLowerCase();
  return ({ properties }) => {
    if (Object.hasOwn(properties, name)) return properties[name];
    for (const key in properties) if (key.toLowerCase() === lower) return properties[key];
    return undefined;
  };
}

class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  parse(): Evaluate {
    const evaluate = this.#or();
    const rest = this.#peek();
    if (rest.kind !== 'end') throw new ConditionError(`"${rest.value}" cannot stand here`, rest.at);
    return evaluate;
  }

  #peek(): Token {
    const token = this.#tokens[this.#next] ?? this.#tokens.at(-1);
    if (token === undefined) throw new ConditionError('an expression is missing', 0);
    return token;
  }

  #take(): Token {
    const token = this.#peek();
    this.#next += 1;
    return token;
  }

  #symbol(value: string): boolean {
    const token = this.#peek();
    if (token.kind !== 'symbol' || token.value !== value) return false;
    this.#next += 1;
    return true;
  }

  #keyword(word: string): boolean {
    const token = this.#peek();
    if (token.kind !== 'name' || token.value.toUpperCase() !== word) return false;
    this.#next += 1;
    return true;
  }

  #expect(value: string): void {
    const token = this.#peek();
    if (!this.#symbol(value)) throw new ConditionError(`"${value}" is missing`, token.at);
  }

  #or(): Evaluate {
    let left = this.#and();
    while (this.#keyword('OR')) {
      const [first, second] = [left, this.#and()];
      left = (message) => first(message) === true || second(message) === true;
    }
    return left;
  }

  #and(): Evaluate {
    let left = this.#not();
    while (this.#keyword('AND')) {
      const [first, second] = [left, this.#not()];
      left = (message) => first(message) === true && second(message) === true;
    }
    return left;
  }

  #not(): Evaluate {
    if (!this.#keyword('NOT')) return this.#comparison();
    const operand = this.#not();
    // NOT of undefined stays undefined, so an absent property never makes a condition true.
    return (message) => {
      const value = operand(message);
      return typeof value === 'boolean' ? !value : undefined;
    };
  }

  #comparison(): Evaluate {
    const left = this.#primary();
    if (this.#keyword('IN')) return this.#in(left);
    const token = this.#peek();
    const compare = token.kind === 'symbol' ? COMPARISONS[token.value] : undefined;
    if (compare === undefined) return left;
    this.#take();
    const right = this.#primary();
    return (message) => {
      const [a, b] = [left(message), right(message)];
      if (a === undefined || b === undefined || typeof a !== typeof b) return undefined;
      return compare(a, b);
    };
  }

  #in(left: Evaluate): Evaluate {
    this.#expect('[');
    const choices: Evaluate[] = [];
    do choices.push(this.#primary());
    while (this.#symbol(','));
    this.#expect(']');
    return (message) => {
      const value = left(message);
      return value === undefined ? undefined : choices.some((choice) => choice(message) === value);
    };
  }

  #primary(): Evaluate {
    const token = this.#take();
    if (token.kind === 'number' || token.kind === 'string') {
      const { value } = token;
      return () => value;
    }
    if (token.kind === 'symbol' && token.value === '(') {
      const inner = this.#or();
      this.#expect(')');
      return inner;
    }
    if (token.kind !== 'name') {
      const what = token.kind === 'end' ? 'the condition ends too early' : `"${token.value}" cannot stand here`;
      throw new ConditionError(what, token.at);
    }
    if (this.#symbol('(')) return this.#call(token.value, token.at);
    return reference(token.value, token.at);
  }

  #call(name: string, at: number): Evaluate {
    const called = FUNCTIONS[name.toUpperCase()];
    if (called === undefined) {
      throw new ConditionError(`${name} is not a function; there are ${Object.keys(FUNCTIONS).join(', ')}`, at);
    }
    const values: Evaluate[] = [];
    if (!this.#symbol(')')) {
      do values.push(this.#or());
      while (this.#symbol(','));
      this.#expect(')');
    }
    if (values.length !== called.arity) {
      throw new ConditionError(`${name} takes ${called.arity} arguments, not ${values.length}`, at);
    }
    return (message) => called.apply(...values.map((value) => value(message)));
  }
}

function reference(name: string, at: number): Evaluate {
  const upper = name.toUpperCase();
  if (upper === 'TRUE' || upper === 'FALSE') return () => upper === 'TRUE';
  if (['AND', 'OR', 'NOT', 'IN'].includes(upper)) throw new ConditionError(`"${name}" cannot stand here`, at);
  if (!name.startsWith('$')) return applicationProperty(name);
  if (/^\$(body|twin)\b/i.test(name)) {
    throw new ConditionError(`${name}: conditions read application and system properties, not bodies or twins`, at);
  }
  const system = SYSTEM_PROPERTIES.get(name.slice(1).toLowerCase());
  const application = applicationProperty(name.slice(1));
  // `$name` is the system property first, then the application property.
  return system === undefined ? application : (message) => system(message) ?? application(message);
}

/** @throws ConditionError with the position of the first fault. */
export function compileCondition(text: string): Condition {
  if (text.length > LIMITS.condition_chars) {
    throw new ConditionError(`a condition has at most ${LIMITS.condition_chars} characters`, LIMITS.condition_chars);
  }
  const evaluate = new Parser(tokenize(text)).parse();
  return (message) => evaluate(message) === true;
}

/** What is wrong with a condition, for the configuration's faults; undefined when it is right. */
export function checkCondition(text: string): string | undefined {
  try {
    compileCondition(text);
    return undefined;
  } catch (error) {
    if (error instanceof ConditionError) return `${error.message} (character ${error.at + 1})`;
    throw error;
  }
}

/** Whether a condition is true for every message, so that its queue can do with a cursor. */
export function isAlwaysTrue(text: string): boolean {
  return text.trim().toLowerCase() === 'true';
}
