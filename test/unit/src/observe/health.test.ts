import { describe, expect, it } from 'vitest';
import type { HealthReport } from '../../../../src/core/service.ts';
import { summarizeHealth } from '../../../../src/observe/health.ts';

const RUNNING: HealthReport = { status: 'running' };
const outbox = (report: HealthReport) => ({ part: 'outbox', report, essential: true });
const web = (report: HealthReport) => ({ part: 'web', report, essential: false });

describe('health', () => {
  it('is live, ready and not degraded when all parts run', () => {
    expect(summarizeHealth({ parts: [outbox(RUNNING), web(RUNNING)], started: true, stalled: [] })).toEqual({
      live: true,
      ready: true,
      degraded: false,
      reasons: [],
    });
  });

  it('stays ready when a part that is not essential fails, and names it', () => {
    const failed: HealthReport = { status: 'failed', reason: 'Port 80 is taken.' };
    expect(summarizeHealth({ parts: [outbox(RUNNING), web(failed)], started: true, stalled: [] })).toEqual({
      live: true,
      ready: true,
      degraded: true,
      reasons: [{ part: 'web', ...failed }],
    });
  });

  it.each(['stopped', 'starting', 'draining', 'failed'] as const)(
    'is not ready while an essential part is %s',
    (status) => {
      expect(summarizeHealth({ parts: [outbox({ status })], started: true, stalled: [] })).toMatchObject({
        live: true,
        ready: false,
        degraded: true,
      });
    },
  );

  it('is ready while an essential part is degraded only', () => {
    const summary = summarizeHealth({ parts: [outbox({ status: 'degraded' })], started: true, stalled: [] });
    expect(summary).toMatchObject({ live: true, ready: true, degraded: true });
  });

  it('is live but not ready before the boot is over', () => {
    const summary = summarizeHealth({ parts: [outbox(RUNNING)], started: false, stalled: [] });
    expect(summary).toMatchObject({ live: true, ready: false });
    expect(summary.reasons).toHaveLength(1);
  });

  it('is neither live nor ready when something makes no progress', () => {
    const summary = summarizeHealth({ parts: [outbox(RUNNING)], started: true, stalled: ['No commit.'] });
    expect(summary).toEqual({
      live: false,
      ready: false,
      degraded: true,
      reasons: [{ part: 'gateway', status: 'failed', reason: 'No commit.' }],
    });
  });
});
