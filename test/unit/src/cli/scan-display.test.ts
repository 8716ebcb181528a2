import { describe, expect, it } from 'vitest';
import { ScanDisplay } from '../../../../src/cli/scan-display.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const WHOLE = { place: 'bus, unit 3', facts: { 'readable holding': '0-9', 'readable input': '0-3' } };
const PART = { place: 'bus, unit 3', facts: { 'readable holding': '0-9' } };

function create() {
  const told = { out: '', err: '' };
  const clock = new ManualClock();
  const display = new ScanDisplay({
    out: (text) => void (told.out += text),
    err: (text) => void (told.err += text),
    clock,
    isTerminal: false,
  });
  return { display, told, clock };
}

describe('the display of a scan', () => {
  it('shows a device that the end of the scan interrupts, with what is known of it, and counts it', () => {
    const { display, told } = create();
    display.show({ kind: 'partial', finding: { place: PART.place, facts: {} } });
    display.show({ kind: 'partial', finding: PART });
    expect(told.out).toBe('');
    expect(display.end()).toBe(1);
    expect(told.out).toBe('bus, unit 3\n  readable holding: 0-9\n  incomplete: not everything was looked at\n');
  });

  it('shows a device once that was looked at to its end', () => {
    const { display, told } = create();
    display.show({ kind: 'partial', finding: PART });
    display.show({ kind: 'found', finding: WHOLE });
    expect(display.end()).toBe(1);
    expect(told.out).toBe('bus, unit 3\n  readable holding: 0-9\n  readable input: 0-3\n');
  });

  it('shows a device that was left, as its line broke, before the next one', () => {
    const { display, told } = create();
    display.show({ kind: 'partial', finding: PART });
    display.show({ kind: 'partial', finding: { place: 'bus 2, unit 1', facts: {} } });
    display.show({ kind: 'found', finding: { place: 'bus 2, unit 1', facts: {} } });
    expect(display.end()).toBe(2);
    expect(told.out).toMatch(/^bus, unit 3\n.*\n {2}incomplete: .*\nbus 2, unit 1\n$/);
  });

  it('does not call a bound what is none', () => {
    const { display, told, clock } = create();
    display.show({ kind: 'estimate', longestMs: 600, text: '1 unit id.' });
    clock.advance(5000);
    display.show({ kind: 'progress', doneShare: 0.5, remainingMs: 130_000, text: 'unit 3' });
    expect(told.err).toBe(
      '1 unit id. About 1 s when nothing answers; Ctrl+C ends it.\n50 %, about 3 min more: unit 3\n',
    );
  });
});
