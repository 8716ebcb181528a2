// Expressions of computed points: arithmetic over other points of the device. The text is parsed by jsep, which only makes
// a tree; the tree is compiled here to closures. No code is made from text, there are no loops and no members, so the cost
// of one evaluation is at most the number of nodes.

import jsep from 'jsep';
import { LIMITS } from './limits.ts';
import type { PointValue } from './reading.ts';

type Value = number | boolean | string;
/** Values of points by name, in the order of `Expression.inputs`. */
type Inputs = readonly Value[];
type Evaluate = (inputs: Inputs) => Value;

export interface Expression {
  /** Points that it reads, each once. */
  readonly inputs: readonly string[];
  /**
   * The value; undefined when the values do not fit the operations (a text times a number, no finite result).
   * Integers beyond 2^53-1 lose their last digits here.
   */
  evaluate(values: readonly PointValue[]): PointValue | undefined;
}

/** What is wrong with the text of an expression. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError';
}

/** Values do not fit an operation; ends one evaluation. */
class MisfitError extends Error {}

/** Thrown again and again while an input does not fit: one object without a stack keeps that cheap. */
const MISFIT = new MisfitError();

function number(value: Value | undefined): number {
  if (typeof value !== 'number') throw MISFIT;
  return value;
}

function truth(value: Value): boolean {
  if (typeof value !== 'boolean') throw MISFIT;
  return value;
}

function text(value: Value | undefined): string {
  if (typeof value !== 'string') throw MISFIT;
  return value;
}

interface Called {
  readonly least: number;
  readonly most: number;
  readonly apply: (values: readonly Value[]) => Value;
}

const ofNumber = (apply: (x: number) => number): Called => ({ least: 1, most: 1, apply: ([x]) => apply(number(x)) });
const ofTwo = (apply: (x: number, y: number) => number): Called => ({
  least: 2,
  most: 2,
  apply: ([x, y]) => apply(number(x), number(y)),
});
const ofSome = (apply: (...values: number[]) => number): Called => ({
  least: 1,
  most: 32,
  apply: (values) => apply(...values.map(number)),
});

const FUNCTIONS: ReadonlyMap<string, Called> = new Map<string, Called>([
  ['abs', ofNumber(Math.abs)],
  ['sign', ofNumber(Math.sign)],
  ['floor', ofNumber(Math.floor)],
  ['ceil', ofNumber(Math.ceil)],
  ['sqrt', ofNumber(Math.sqrt)],
  ['exp', ofNumber(Math.exp)],
  ['log', ofNumber(Math.log)],
  ['log10', ofNumber(Math.log10)],
  ['sin', ofNumber(Math.sin)],
  ['cos', ofNumber(Math.cos)],
  ['tan', ofNumber(Math.tan)],
  ['atan2', ofTwo(Math.atan2)],
  ['pow', ofTwo(Math.pow)],
  ['min', ofSome(Math.min)],
  ['max', ofSome(Math.max)],
  ['round', { least: 1, most: 2, apply: ([x, digits = 0]) => rounded(number(x), number(digits)) }],
  ['clamp', { least: 3, most: 3, apply: ([x, low, high]) => Math.min(Math.max(number(x), number(low)), number(high)) }],
  // Of integers to 2^53: shifts of 32 bits would lose the upper ones.
  ['bit', { least: 2, most: 2, apply: ([x, bit]) => Math.floor(number(x) / 2 ** number(bit)) % 2 !== 0 }],
  ['number', { least: 1, most: 1, apply: ([x]) => asNumber(x) }],
  ['contains', { least: 2, most: 2, apply: ([whole, part]) => text(whole).includes(text(part)) }],
]);

/** Digits below zero round to tens, hundreds, …; a double has no more than 15 behind the point that say anything. */
function rounded(value: number, digits: number): number {
  if (!Number.isInteger(digits)) throw MISFIT;
  if (digits >= 0) return Number(value.toFixed(Math.min(digits, 15)));
  const step = 10 ** -digits;
  return Number((value / step).toFixed(0)) * step;
}

function asNumber(value: Value | undefined): number {
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (typeof value !== 'string') return number(value);
  if (value.trim() === '') throw MISFIT;
  return Number(value);
}

function compared(a: Value, b: Value, order: (a: number | string, b: number | string) => boolean): boolean {
  if (typeof a === 'boolean' || typeof a !== typeof b) throw MISFIT;
  return order(a, b as number | string);
}

function same(a: Value, b: Value): boolean {
  if (typeof a !== typeof b) throw MISFIT;
  return a === b;
}

const BINARY: ReadonlyMap<string, (a: Value, b: Value) => Value> = new Map<string, (a: Value, b: Value) => Value>([
  // Numbers only: texts that grow would have no bound over a chain of points.
  ['+', (a, b) => number(a) + number(b)],
  ['-', (a, b) => number(a) - number(b)],
  ['*', (a, b) => number(a) * number(b)],
  ['/', (a, b) => number(a) / number(b)],
  ['%', (a, b) => number(a) % number(b)],
  ['**', (a, b) => number(a) ** number(b)],
  ['==', same],
  ['===', same],
  ['!=', (a, b) => !same(a, b)],
  ['!==', (a, b) => !same(a, b)],
  ['<', (a, b) => compared(a, b, (x, y) => x < y)],
  ['<=', (a, b) => compared(a, b, (x, y) => x <= y)],
  ['>', (a, b) => compared(a, b, (x, y) => x > y)],
  ['>=', (a, b) => compared(a, b, (x, y) => x >= y)],
]);

/** One compilation: gives each point a place among the inputs and counts nodes. */
class Compiler {
  readonly inputs: string[] = [];
  #nodes = 0;

  compile(node: jsep.Expression): Evaluate {
    this.#nodes += 1;
    if (this.#nodes > LIMITS.expression_nodes) {
      throw new ExpressionError(`an expression has at most ${LIMITS.expression_nodes} parts`);
    }
    const known = node as jsep.CoreExpression;
    switch (known.type) {
      case 'Literal':
        return this.#literal(known);
      case 'Identifier':
        return this.#input(known.name);
      case 'UnaryExpression':
        return this.#unary(known);
      case 'BinaryExpression':
        return this.#binary(known);
      case 'ConditionalExpression': {
        const [test, yes, no] = [known.test, known.consequent, known.alternate].map((part) => this.compile(part)) as [
          Evaluate,
          Evaluate,
          Evaluate,
        ];
        return (inputs) => (truth(test(inputs)) ? yes(inputs) : no(inputs));
      }
      case 'CallExpression':
        return this.#call(known);
      case 'MemberExpression':
        throw new ExpressionError('a point whose name has dots or brackets is written point("NAME")');
      case 'Compound':
      case 'SequenceExpression':
        throw new ExpressionError('there is more than one expression; an operator is missing between them');
      default:
        throw new ExpressionError('only points, numbers, texts, operators and functions may stand in an expression');
    }
  }

  #literal({ value, raw }: jsep.Literal): Evaluate {
    if (typeof value !== 'number' && typeof value !== 'boolean' && typeof value !== 'string') {
      throw new ExpressionError(`${raw} cannot stand in an expression`);
    }
    return () => value;
  }

  #input(name: string): Evaluate {
    const known = this.inputs.indexOf(name);
    const at = known === -1 ? this.inputs.push(name) - 1 : known;
    return (inputs) => inputs[at] as Value;
  }

  #unary({ operator, argument }: jsep.UnaryExpression): Evaluate {
    const inner = this.compile(argument);
    if (operator === '-') return (inputs) => -number(inner(inputs));
    if (operator === '+') return (inputs) => number(inner(inputs));
    if (operator === '!') return (inputs) => !truth(inner(inputs));
    throw new ExpressionError(`the operator ${operator} is not known; there are - + !`);
  }

  #binary({ operator, left, right }: jsep.BinaryExpression): Evaluate {
    const [a, b] = [this.compile(left), this.compile(right)];
    if (operator === '&&') return (inputs) => truth(a(inputs)) && truth(b(inputs));
    if (operator === '||') return (inputs) => truth(a(inputs)) || truth(b(inputs));
    const apply = BINARY.get(operator);
    if (apply === undefined) {
      throw new ExpressionError(
        `the operator ${operator} is not known; there are ${[...BINARY.keys(), '&&', '||'].join(' ')}`,
      );
    }
    return (inputs) => apply(a(inputs), b(inputs));
  }

  #call({ callee, arguments: parts }: jsep.CallExpression): Evaluate {
    const known = callee as jsep.CoreExpression;
    const name = known.type === 'Identifier' ? known.name : '';
    if (name === 'point') {
      const [part] = parts;
      if (parts.length !== 1 || part?.type !== 'Literal' || typeof part['value'] !== 'string') {
        throw new ExpressionError('point takes one name in quotes: point("NAME")');
      }
      return this.#input(part['value']);
    }
    const called = FUNCTIONS.get(name);
    if (called === undefined) {
      throw new ExpressionError(`${name} is not a function; there are point, ${[...FUNCTIONS.keys()].join(', ')}`);
    }
    const { least, most, apply } = called;
    if (parts.length < least || parts.length > most) {
      const allowed = least === most ? String(least) : `${least} to ${most}`;
      throw new ExpressionError(`${name} takes ${allowed} values, not ${parts.length}`);
    }
    const values = parts.map((part) => this.compile(part));
    return (inputs) => apply(values.map((value) => value(inputs)));
  }
}

function parse(source: string): jsep.Expression {
  try {
    return jsep(source);
  } catch (error) {
    // Deep nesting ends the parser's stack; everything else is its own message with the place.
    if (error instanceof RangeError) throw new ExpressionError('the expression is nested too deeply');
    const message = error instanceof Error ? error.message : String(error);
    throw new ExpressionError(message.replace(/\.$/, ''), { cause: error });
  }
}

/** @throws ExpressionError */
export function compileExpression(source: string): Expression {
  if (source.length > LIMITS.expression_chars) {
    throw new ExpressionError(`an expression has at most ${LIMITS.expression_chars} characters`);
  }
  const compiler = new Compiler();
  const evaluate = compiler.compile(parse(source));
  return {
    inputs: compiler.inputs,
    evaluate(values) {
      try {
        const result = evaluate(values.map(plain));
        return typeof result === 'number' && !Number.isFinite(result) ? undefined : result;
      } catch (error) {
        if (error === MISFIT) return undefined;
        throw error;
      }
    },
  };
}

function plain(value: PointValue): Value {
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint8Array) throw MISFIT;
  return value;
}
