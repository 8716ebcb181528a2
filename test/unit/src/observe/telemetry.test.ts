import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LIMITS } from '../../../../src/core/limits.ts';
import type { LogFields, Logger } from '../../../../src/core/log.ts';
import { createEventCounters } from '../../../../src/observe/event-counters.ts';
import { EVENTS, type EventRow } from '../../../../src/observe/events.ts';
import { createTelemetry } from '../../../../src/observe/telemetry.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function setUp() {
  const lines: { level: string; sentence: string; fields: LogFields }[] = [];
  const write = (level: string) => (fields: LogFields, sentence: string) =>
    void lines.push({ level, sentence, fields });
  const log: Logger = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: () => log,
  };
  const clock = new ManualClock();
  const counters = createEventCounters();
  return { lines, clock, counters, telemetry: createTelemetry({ log, clock, counters }) };
}

describe('telemetry', () => {
  it('counts, logs and remembers in one place', () => {
    const { telemetry, lines, counters } = setUp();
    telemetry.emit('messages_dropped', { count: 17, reason: 'max_age', key: 'a', device: 'meter-1' });
    expect(counters.samples('fieldpost_messages_dropped_total')).toEqual([
      { labels: { reason: 'max_age' }, value: 17 },
    ]);
    expect(lines).toEqual([
      {
        level: 'error',
        sentence: EVENTS.messages_dropped.text,
        fields: { event: 'messages_dropped', count: 17, reason: 'max_age', device: 'meter-1' },
      },
    ]);
    expect(telemetry.recent()).toMatchObject([
      { name: 'messages_dropped', level: 'error', time: '2026-01-02T03:04:05.000Z', fields: { device: 'meter-1' } },
    ]);
  });

  it('says a flood once, then its last word with the number of repeats, and counts all of it', () => {
    const { telemetry, lines, clock, counters } = setUp();
    for (let n = 1; n <= 100; n += 1) telemetry.emit('messages_dropped', { count: 1, reason: 'busy', key: 'a', to: n });
    telemetry.emit('messages_dropped', { count: 1, reason: 'busy', key: 'b', to: 0 });
    expect(lines.map(({ fields }) => fields['to'])).toEqual([1, 0]);
    clock.advance(10_000);
    expect(lines.slice(2).map(({ fields }) => fields)).toMatchObject([{ to: 100, repeats: 99 }]);
    expect(counters.samples('fieldpost_messages_dropped_total')[0]?.value).toBe(101);
    clock.advance(60_000);
    expect(lines).toHaveLength(3);
    expect(clock.waiting).toBe(0);
    telemetry.emit('messages_dropped', { count: 1, reason: 'busy', key: 'a', to: 101 });
    expect(lines).toHaveLength(4);
  });

  it('goes on at the given rate while a flood lasts', () => {
    const { telemetry, lines, clock } = setUp();
    for (let secs = 0; secs < 60; secs += 1) {
      telemetry.emit('messages_dropped', { count: 1, reason: 'busy', key: 'a', secs });
      clock.advance(1000);
    }
    expect(lines.length).toBeGreaterThanOrEqual(6);
    expect(lines.length).toBeLessThanOrEqual(7);
  });

  it('says at the end what it held back, and what comes later without a timer', () => {
    const { telemetry, lines, clock } = setUp();
    telemetry.emit('device_state_changed', { key: 'm', device: 'm', to: 'offline' });
    telemetry.emit('device_state_changed', { key: 'm', device: 'm', to: 'good' });
    telemetry.close();
    expect(lines.at(-1)?.fields).toMatchObject({ to: 'good' });
    expect(clock.waiting).toBe(0);
    telemetry.emit('device_state_changed', { key: 'm', device: 'm', to: 'offline' });
    expect(lines.at(-1)?.fields).toMatchObject({ to: 'offline' });
    expect(clock.waiting).toBe(0);
  });

  it('bounds the recent events and what is held back', () => {
    const { telemetry, clock } = setUp();
    for (let n = 0; n < LIMITS.telemetry_keys + 500; n += 1) {
      telemetry.emit('device_state_changed', { key: `device-${n}`, device: `device-${n}` });
    }
    expect(telemetry.recent()).toHaveLength(LIMITS.recent_events);
    expect(telemetry.recent()[0]?.fields['device']).toBe(`device-${LIMITS.telemetry_keys + 499}`);
    expect(clock.waiting).toBe(LIMITS.telemetry_keys);
  });

  it('keeps secrets and what JSON cannot hold out of the recent events', () => {
    const { telemetry } = setUp();
    telemetry.emit('gateway_started', { password: 'hunter2', big: 2n ** 60n, error: new Error('text') });
    expect(JSON.parse(JSON.stringify(telemetry.recent()[0]?.fields))).toEqual({
      password: '***',
      big: '1152921504606846976',
      error: 'text',
    });
  });
});

describe('event catalogue', () => {
  const rows = Object.entries(EVENTS) as [string, EventRow][];

  it.each(rows)('%s is a sentence with well-named counters', (_name, row) => {
    expect(row.text).toMatch(/^[A-Z].*\.$/);
    for (const counter of row.counters ?? []) {
      expect(counter.name).toMatch(/^(?:fieldpost|iothub)_[a-z_]+_total$/);
      expect(counter.help).toMatch(/^[A-Z].*\.$/);
    }
    if (row.level === 'none') expect(row.counters?.length ?? 0).toBeGreaterThan(0);
  });

  it('gives counters of one name the same labels', () => {
    const labels = new Map<string, string>();
    for (const [, row] of rows) {
      for (const counter of row.counters ?? []) {
        const text = JSON.stringify(counter.labels ?? []);
        expect(labels.get(counter.name) ?? text).toBe(text);
        labels.set(counter.name, text);
      }
    }
  });

  it('has no row that nobody emits', () => {
    const root = join(import.meta.dirname, '../../../..');
    const sources = ['src', 'modules'].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((path) => path.endsWith('.ts') && !path.endsWith('observe/events.ts'))
        .map((path) => readFileSync(join(root, folder, path), 'utf8')),
    );
    expect(sources.length).toBeGreaterThan(50);
    const unused = rows.map(([name]) => name).filter((name) => !sources.some((text) => text.includes(`'${name}'`)));
    expect(unused).toEqual([]);
  });
});
