// The order in which the computed points of a device are evaluated, each after those that it reads.

import { compileExpression, type Expression, ExpressionError } from './expression.ts';

/** What is wrong with one of them: its expression, a name that is no point, or a circle. */
export interface ComputedFault {
  readonly name: string;
  readonly message: string;
}

export interface ComputedOrder {
  /** Those without a fault, in order. */
  readonly sorted: readonly { readonly name: string; readonly expression: Expression }[];
  readonly faults: readonly ComputedFault[];
}

/**
 * @param expressions text by name of the computed point
 * @param isPoint whether the device has a point of that name that is not computed
 */
export function computedOrder(
  expressions: ReadonlyMap<string, string>,
  isPoint: (name: string) => boolean,
): ComputedOrder {
  const faults: ComputedFault[] = [];
  const open = new Map<string, Expression>();
  for (const [name, source] of expressions) {
    try {
      const expression = compileExpression(source);
      const unknown = expression.inputs.find((input) => !expressions.has(input) && !isPoint(input));
      if (unknown === undefined) open.set(name, expression);
      else faults.push({ name, message: `the device has no point "${unknown}".` });
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      faults.push({ name, message: `${error.message}.` });
    }
  }
  const sorted: { name: string; expression: Expression }[] = [];
  const done = new Set<string>();
  for (let before = -1; before !== sorted.length;) {
    before = sorted.length;
    for (const [name, expression] of open) {
      if (!expression.inputs.every((input) => done.has(input) || !expressions.has(input))) continue;
      sorted.push({ name, expression });
      done.add(name);
      open.delete(name);
    }
  }
  const faulty = new Set(faults.map(({ name }) => name));
  for (const [name, { inputs }] of open) {
    // Who only reads a faulty one has no fault of its own to tell.
    if (inputs.some((input) => faulty.has(input)) && !readsItself(name, open)) continue;
    faults.push({ name, message: `computed points must not depend on themselves: ${circle(name, open)}.` });
  }
  return { sorted, faults };
}

function readsItself(name: string, open: ReadonlyMap<string, Expression>): boolean {
  const seen = new Set<string>();
  const next = [...(open.get(name)?.inputs ?? [])];
  for (let input = next.pop(); input !== undefined; input = next.pop()) {
    if (input === name) return true;
    if (seen.has(input)) continue;
    seen.add(input);
    next.push(...(open.get(input)?.inputs ?? []));
  }
  return false;
}

/** `a -> b -> a`: what is open always reads something that is open. */
function circle(name: string, open: ReadonlyMap<string, Expression>): string {
  const path = [name];
  for (;;) {
    const next = open.get(path.at(-1) ?? name)?.inputs.find((input) => open.has(input));
    if (next === undefined) return path.join(' -> ');
    const seen = path.indexOf(next);
    path.push(next);
    if (seen !== -1) return path.slice(seen).join(' -> ');
  }
}
