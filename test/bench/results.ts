// What a run says: for the terminal, and for RESULTS.md.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { BenchRow } from './bench.ts';
import type { Calibration } from './calibration.ts';
import type { Machine } from './machine.ts';

export interface ResultRow extends BenchRow {
  /** Undefined: no bar, or the row does not count. */
  readonly met: boolean | undefined;
}

export interface BenchResults {
  readonly machine: Machine;
  readonly mode: 'quick' | 'normal' | 'full';
  readonly calibration: { readonly before: Calibration; readonly after: Calibration };
  readonly rows: readonly ResultRow[];
}

export function renderMachine({ machine, mode, calibration }: BenchResults): string {
  const { before, after } = calibration;
  const loop = ({ ms, spread }: Calibration): string => `${ms.toFixed(0)} ms (slowest/fastest ${spread.toFixed(2)})`;
  return [
    `${machine.date}, commit ${machine.commit}, ${mode} run`,
    `${machine.cores} cores of ${machine.cpu}, ${machine.memoryMb} MB, ${machine.system}, Linux ${machine.kernel}, Node ${machine.node}`,
    `${machine.fileSystem}; load at the start ${machine.load.toFixed(1)}`,
    `calibration loop: ${loop(before)} before, ${loop(after)} after`,
  ].join('\n');
}

function cells({ what, measured, value, unit, bar, met, doesNotCount }: ResultRow): string[] {
  const digits = unit === 's' || unit === '×' ? 2 : 1;
  const sign = bar?.kind === 'at_least' ? '≥' : '≤';
  const verdict =
    met === undefined
      ? doesNotCount === undefined
        ? 'stated'
        : `does not count: ${doesNotCount}`
      : met
        ? 'yes'
        : 'NO';
  return [
    what,
    Number.isNaN(value) ? '—' : `${value.toFixed(digits)} ${unit}`,
    bar === undefined ? '—' : `${sign} ${bar.value} ${unit}`,
    verdict,
    measured,
  ];
}

/** A table in Markdown, padded, so that it reads in a terminal too. */
export function renderTable(rows: readonly ResultRow[]): string {
  const lines = [['what', 'result', 'bar', 'met', 'measured'], ...rows.map(cells)];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const render = (line: readonly string[]): string =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  const [head = [], ...body] = lines;
  return [render(head), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...body.map(render)].join('\n');
}

const MARK = /<!-- bench: (\w+) -->\n[\s\S]*?<!-- end -->/;

/** Puts the run between the marks of RESULTS.md; what people wrote around them stays. */
export function recordResults(path: string, results: BenchResults): void {
  const block = `<!-- bench: ${results.mode} -->\n\n\`\`\`text\n${renderMachine(results)}\n\`\`\`\n\n${renderTable(results.rows)}\n\n<!-- end -->`;
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  if (!MARK.test(text)) throw new Error(`${path} has no place for the results.`);
  // A function, because `$` means something in a replacement text.
  writeFileSync(
    path,
    text.replace(MARK, () => block),
  );
}
