import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { computedOrder } from '../../../../src/core/computed-order.ts';
import { compileExpression, ExpressionError } from '../../../../src/core/expression.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import type { PointValue } from '../../../../src/core/reading.ts';

function value(source: string, points: Record<string, PointValue> = {}): PointValue | undefined {
  const expression = compileExpression(source);
  return expression.evaluate(
    expression.inputs.map((name) => (Object.hasOwn(points, name) ? points[name] : 0) as PointValue),
  );
}

describe('an expression', () => {
  it.each<[string, Record<string, PointValue>, PointValue]>([
    ['voltage * current / 1000', { voltage: 230, current: 10 }, 2.3],
    ['2 + 3 * 4 - -1', {}, 15],
    ['2 ** 3 ** 2', {}, 512],
    ['abs(a) > 5 && !b ? a : 0', { a: -6, b: false }, -6],
    ['point("phase-1.power") + point(\'x y\')', { 'phase-1.power': 1, 'x y': 2 }, 3],
    ['max(a, b, 3)', { a: 1, b: 2 }, 3],
    ['round(a, 2)', { a: 1.23456 }, 1.23],
    ['round(a, -2)', { a: 1250 }, 1300],
    ['round(a, -1)', { a: -14 }, -10],
    ['round(a, 99)', { a: 1.25 }, 1.25],
    ['clamp(a, 0, 100)', { a: 130 }, 100],
    ['bit(status, 40)', { status: 2 ** 40 }, true],
    ['bit(status, 0)', { status: 6 }, false],
    ['number(on) * 5', { on: true }, 5],
    ['number(text) + 1', { text: '41' }, 42],
    ["state == 'run' || contains(state, 'war')", { state: 'warming' }, true],
    ['big / 2', { big: 2n ** 60n }, 2 ** 59],
    ['a <= b', { a: 'x', b: 'y' }, true],
  ])('%s', (source, points, expected) => {
    expect(value(source, points)).toEqual(expected);
  });

  it.each<[string, Record<string, PointValue>]>([
    ['a / b', { a: 1, b: 0 }],
    ['sqrt(a)', { a: -1 }],
    ['round(a, 0.5)', { a: 1 }],
    ['a + b', { a: 1, b: 'x' }],
    ['a + b', { a: 'x', b: 'y' }],
    ['a == b', { a: 1, b: '1' }],
    ['a ? 1 : 2', { a: 1 }],
    ['a && b', { a: true, b: 1 }],
    ['number(a)', { a: '' }],
    ['number(a)', { a: 'twelve' }],
    ['a + 1', { a: Uint8Array.of(1) }],
  ])('%s of values that do not fit has no value', (source, points) => {
    expect(value(source, points)).toBeUndefined();
  });

  it.each([
    ['a +', /character|Expected/],
    ['a b', /operator is missing/],
    ['a.b', /point\("NAME"\)/],
    ['a["constructor"]', /point\("NAME"\)/],
    ['this', /only points/],
    ['[1, 2]', /only points/],
    ['constructor("return 1")()', /not a function/],
    ['toString()', /not a function/],
    ['eval("1")', /not a function/],
    ['point(a)', /name in quotes/],
    ['abs(1, 2)', /takes 1 values, not 2/],
    ['a << 2', /operator << is not known/],
    ['~a', /operator ~ is not known/],
    ['null', /cannot stand/],
    ['', /more than one expression|expression/],
    ['('.repeat(1000) + '1', /./],
    [Array.from({ length: LIMITS.expression_nodes }, () => '1').join('+'), /at most/],
    ['1'.repeat(LIMITS.expression_chars + 1), /at most/],
  ])('refuses %s', (source, message) => {
    expect(() => compileExpression(source)).toThrow(ExpressionError);
    expect(() => compileExpression(source)).toThrow(message);
  });

  it('throws nothing but its own error whatever the text, and gives plain values only', () => {
    const word = fc.constantFrom(
      'a',
      'b',
      '1',
      '2.5',
      '"x"',
      '+',
      '-',
      '*',
      '/',
      '(',
      ')',
      '?',
      ':',
      ',',
      'abs',
      'min',
    );
    const texts = fc.oneof(
      fc.string({ maxLength: 40 }),
      fc.array(word, { maxLength: 14 }).map((words) => words.join(' ')),
    );
    fc.assert(
      fc.property(texts, (source) => {
        try {
          const result = value(source, { a: 3, b: 'y' });
          if (typeof result === 'number') expect(Number.isFinite(result)).toBe(true);
          else expect(['undefined', 'boolean', 'string']).toContain(typeof result);
        } catch (error) {
          expect(error).toBeInstanceOf(ExpressionError);
        }
      }),
    );
  });
});

describe('the order of computed points', () => {
  const isPoint = (name: string): boolean => name === 'v';
  const order = (expressions: Record<string, string>) => computedOrder(new Map(Object.entries(expressions)), isPoint);

  it('is each after those that it reads', () => {
    const { sorted, faults } = order({ c: 'b + a', b: 'a * 2', a: 'v + 1' });
    expect(sorted.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    expect(faults).toEqual([]);
  });

  it('names circles, once for each in it, and nobody who only reads them', () => {
    const { sorted, faults } = order({ a: 'b + v', b: 'c', c: 'a', self: 'self + 1', fine: 'v' });
    expect(sorted.map(({ name }) => name)).toEqual(['fine']);
    expect(faults).toEqual([
      { name: 'a', message: 'computed points must not depend on themselves: a -> b -> c -> a.' },
      { name: 'b', message: 'computed points must not depend on themselves: b -> c -> a -> b.' },
      { name: 'c', message: 'computed points must not depend on themselves: c -> a -> b -> c.' },
      { name: 'self', message: 'computed points must not depend on themselves: self -> self.' },
    ]);
  });

  it('names points that are not there', () => {
    expect(order({ a: 'v + w', b: 'a' }).faults).toEqual([{ name: 'a', message: 'the device has no point "w".' }]);
  });
});
