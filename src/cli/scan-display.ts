// What a person sees of a scan: findings on the output, the rest beside it.

import type { Clock } from '../core/clock.ts';
import type { ScanEvent, ScanFinding } from '../core/scan.ts';
import type { CommandContext } from './command.ts';

/** Where nobody watches a terminal, progress is told no more often. */
const PROGRESS_EVERY_MS = 5000;

export interface ScanDisplayOptions extends Pick<CommandContext, 'out' | 'err'> {
  readonly clock: Clock;
  readonly isTerminal: boolean;
}

export class ScanDisplay {
  readonly #options: ScanDisplayOptions;
  readonly #clear: string;
  #toldMs: number;
  #found = 0;
  /** What is looked at. */
  #partial: ScanFinding | undefined;

  constructor(options: ScanDisplayOptions) {
    this.#options = options;
    this.#clear = options.isTerminal ? '\r\u001B[K' : '';
    this.#toldMs = options.clock.monotonicMs();
  }

  show(event: ScanEvent): void {
    const { err } = this.#options;
    switch (event.kind) {
      case 'estimate':
        err(`${event.text} About ${duration(event.longestMs)} when nothing answers; Ctrl+C ends it.\n`);
        break;
      case 'progress':
        this.#progress(
          `${Math.floor(event.doneShare * 100)} %, about ${duration(event.remainingMs)} more: ${event.text}`,
        );
        break;
      case 'partial':
        if (this.#partial?.place !== event.finding.place) this.#leave();
        this.#partial = event.finding;
        break;
      case 'found':
        if (this.#partial?.place !== event.finding.place) this.#leave();
        this.#partial = undefined;
        this.#finding(event.finding);
        break;
      case 'note':
        err(`${this.#clear}${event.text}\n`);
        break;
    }
  }

  /** The scan is over, for whatever reason: shows what was still looked at. Returns how many were found. */
  end(): number {
    this.#leave();
    this.#options.err(this.#clear);
    return this.#found;
  }

  /** What was looked at, and will not be any more. */
  #leave(): void {
    const finding = this.#partial;
    this.#partial = undefined;
    if (finding === undefined) return;
    this.#finding({ ...finding, facts: { ...finding.facts, incomplete: 'not everything was looked at' } });
  }

  #finding(finding: ScanFinding): void {
    this.#found += 1;
    this.#options.err(this.#clear);
    void this.#options.out(findingText(finding));
  }

  #progress(text: string): void {
    const { err, clock, isTerminal } = this.#options;
    if (isTerminal) {
      err(`${this.#clear}${text}`);
      return;
    }
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#toldMs < PROGRESS_EVERY_MS) return;
    this.#toldMs = nowMs;
    err(`${text}\n`);
  }
}

/** How long, in words: `40 s`, `12 min`. */
function duration(ms: number): string {
  const secs = Math.ceil(ms / 1000);
  return secs < 120 ? `${secs} s` : `${Math.ceil(secs / 60)} min`;
}

function findingText({ place, facts, suggestion }: ScanFinding): string {
  const lines = Object.entries(facts).map(([name, value]) => `  ${name}: ${value}\n`);
  const yaml = suggestion === undefined ? '' : `  configuration:\n${suggestion.trimEnd().replaceAll(/^/gm, '    ')}\n`;
  return `${place}\n${lines.join('')}${yaml}`;
}
