import { describe, expect, it } from 'vitest';
import { LIMITS } from '../../../../src/core/limits.ts';
import type { MetricsSnapshot } from '../../../../src/observe/metric-rows.ts';
import { createFieldMeters, createMetrics, renderMetricsReference } from '../../../../src/observe/metrics.ts';
import { parsePrometheus } from '../../../support/prometheus.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { EVENTS, type EventName, type EventRow } from '../../../../src/observe/events.ts';
import type { LogFields } from '../../../../src/core/log.ts';

const lane = { messages: 3, bytes: 300 };

const snapshot: MetricsSnapshot = {
  version: '1.2.3',
  outbox: {
    epoch: 'k3f9',
    messages: 12,
    bytes: 3400,
    diskBytes: 8192,
    freeBytes: 1e9,
    headOffset: 5,
    tailOffset: 17,
    oldestAgeMs: 2500,
    quarantined: 1,
    waitingAppends: 4,
    commitsTotal: 9,
    appendedTotal: 17,
    droppedTotal: 0,
    untoldLosses: 0,
    lastCommitAnsweredMs: 1,
    full: false,
    streams: [],
    queues: [
      {
        name: '$upstream',
        messages: 12,
        bytes: 3400,
        inFlight: 2,
        live: lane,
        history: { messages: 9, bytes: 3100 },
        oldestAgeMs: undefined,
        acceptedTotal: 5,
        droppedTotal: 0,
        quarantinedTotal: 0,
        detached: false,
      },
    ],
  },
  health: { live: true, ready: true, degraded: false, reasons: [] },
  endpoints: [
    {
      name: '$upstream',
      connected: true,
      bytes: { live: 700, commands: 30 },
      budget: { monthlyBytes: 1000, usedBytes: 730 },
    },
    { name: 'cloud "2"\n', connected: false, bytes: { live: 0 }, budget: undefined },
  ],
  adapters: { running: 2, failed: 1 },
  devices: { good: 7 },
  clock: 'synced',
  eventLoop: { p50Ms: 0, p99Ms: 4, maxMs: 20 },
  memory: { rssBytes: 5e7, heapUsedBytes: 2e7 },
  cpuSeconds: 1.5,
  startedAtSecs: 1_700_000_000,
  inUse: { points: 30 },
};

function setUp() {
  const metrics = createMetrics();
  const rows: Record<EventName, EventRow> = EVENTS;
  const telemetry = {
    emit(name: EventName, fields: LogFields = {}) {
      metrics.counters.count(rows[name].counters ?? [], fields);
    },
  };
  return { metrics, telemetry, meters: createFieldMeters(metrics, telemetry) };
}

describe('metrics', () => {
  it('exports what is documented and documents what is exported, under the names of the contract', async () => {
    const { metrics } = setUp();
    metrics.setSnapshot(() => snapshot);
    const documented = [...renderMetricsReference().matchAll(/^\| `([a-z_]+)` \|/gm)].map((match) => match[1]);
    const { types } = parsePrometheus(await metrics.render());
    expect(new Set(types.keys())).toEqual(new Set(documented));
    expect(new Set(documented).size).toBe(documented.length);
    expect(documented).toEqual(
      expect.arrayContaining([
        'fieldpost_messages_received_total',
        'fieldpost_messages_stored_total',
        'fieldpost_messages_delivered_total',
        'fieldpost_messages_dropped_total',
        'fieldpost_outbox_messages',
        'fieldpost_outbox_bytes',
        'fieldpost_outbox_oldest_age_seconds',
        'fieldpost_upstream_connected',
        'fieldpost_event_loop_lag_seconds',
        'fieldpost_memory_rss_bytes',
        'fieldpost_poll_lateness_seconds',
      ]),
    );
  });

  it('reads gauges when asked, with the values of that moment', async () => {
    const { metrics } = setUp();
    let messages = 12;
    let reads = 0;
    metrics.setSnapshot(() => {
      reads += 1;
      return { ...snapshot, outbox: { ...snapshot.outbox!, messages } };
    });
    const first = parsePrometheus(await metrics.render());
    expect(reads).toBe(1);
    expect(first.value('fieldpost_outbox_messages')).toBe(12);
    expect(first.value('fieldpost_outbox_oldest_age_seconds')).toBe(2.5);
    expect(first.value('fieldpost_messages_stored_total')).toBe(17);
    expect(first.value('fieldpost_upstream_connected', { endpoint: '$upstream' })).toBe(1);
    expect(first.value('fieldpost_upstream_connected', { endpoint: 'cloud "2"\n' })).toBe(0);
    const bytes = 'fieldpost_endpoint_bytes_total';
    expect(first.value(bytes, { endpoint: '$upstream', direction: 'up', flow: 'live' })).toBe(700);
    expect(first.value(bytes, { endpoint: '$upstream', direction: 'down', flow: 'commands' })).toBe(30);
    expect(first.value('fieldpost_endpoint_budget_used_bytes', { endpoint: '$upstream' })).toBe(730);
    expect(first.value('fieldpost_endpoint_budget_bytes', { endpoint: 'cloud "2"\n' })).toBeUndefined();
    expect(first.value('fieldpost_adapters', { state: 'failed' })).toBe(1);
    expect(first.value('fieldpost_adapters', { state: 'stopped' })).toBe(0);
    expect(first.value('fieldpost_queue_history_messages', { queue: '$upstream' })).toBe(9);
    messages = 3;
    expect(parsePrometheus(await metrics.render()).value('fieldpost_outbox_messages')).toBe(3);
  });

  it('shows every limit beside what is in use', async () => {
    const { metrics } = setUp();
    metrics.setSnapshot(() => snapshot);
    const { samples, value } = parsePrometheus(await metrics.render());
    const limits = samples.filter(({ name }) => name === 'fieldpost_limit');
    expect(new Set(limits.map(({ labels }) => labels['name']))).toEqual(new Set(Object.keys(LIMITS)));
    expect(value('fieldpost_limit', { name: 'points' })).toBe(LIMITS.points);
    expect(value('fieldpost_limit_used', { name: 'points' })).toBe(30);
  });

  it('drops the labels of what is gone', async () => {
    const { metrics } = setUp();
    let endpoints = snapshot.endpoints;
    metrics.setSnapshot(() => ({ ...snapshot, endpoints }));
    await metrics.render();
    endpoints = endpoints.slice(0, 1);
    const { samples } = parsePrometheus(await metrics.render());
    expect(samples.filter(({ name }) => name === 'fieldpost_upstream_connected')).toHaveLength(1);
  });

  it('counts events, exchanges and polls', async () => {
    const { metrics, telemetry, meters } = setUp();
    const deviceId = parseDeviceId('meter-1');
    telemetry.emit('messages_received', { count: 3, source: 'poll' });
    telemetry.emit('messages_received', { count: 2, source: 'poll' });
    meters.exchange('bus-1', { deviceId, operation: 'read', durationMs: 3, outcome: 'timeout' });
    meters.poll('bus-1', { deviceId, periodMs: 1000, latenessMs: 4, durationMs: 30, missedPolls: 2 });
    const { value } = parsePrometheus(await metrics.render());
    expect(value('fieldpost_messages_received_total', { source: 'poll' })).toBe(5);
    expect(value('fieldpost_field_exchanges_total', { outcome: 'timeout' })).toBe(1);
    expect(value('fieldpost_polls_total')).toBe(1);
    expect(value('fieldpost_polls_missed_total')).toBe(2);
    expect(value('fieldpost_poll_lateness_seconds_bucket', { le: '0.001' })).toBe(0);
    expect(value('fieldpost_poll_lateness_seconds_bucket', { le: '0.005' })).toBe(1);
    expect(value('fieldpost_poll_duration_seconds_sum')).toBeCloseTo(0.03);
    meters.poll('bus-1', { deviceId, periodMs: 1000, latenessMs: 9_000_000, durationMs: 0, missedPolls: 0 });
    meters.poll('bus-1', { deviceId, periodMs: 1000, latenessMs: 5, durationMs: 0, missedPolls: 0 });
    const later = parsePrometheus(await metrics.render());
    const bucket = (le: string) => later.value('fieldpost_poll_lateness_seconds_bucket', { le });
    expect([bucket('0.001'), bucket('0.005'), bucket('5'), bucket('+Inf')]).toEqual([0, 2, 2, 3]);
    expect(later.value('fieldpost_poll_lateness_seconds_count')).toBe(3);
  });

  it('bounds the label sets of a counter, and loses no count by it', async () => {
    const { metrics, telemetry } = setUp();
    const total = LIMITS.metric_label_sets * 3;
    for (let n = 0; n < total; n += 1) telemetry.emit('field_exchange', { outcome: `text of a peer ${n}` });
    const { samples } = parsePrometheus(await metrics.render());
    const exchanges = samples.filter(({ name }) => name === 'fieldpost_field_exchanges_total');
    expect(exchanges.length).toBeLessThanOrEqual(LIMITS.metric_label_sets + 1);
    expect(exchanges.reduce((sum, { value }) => sum + value, 0)).toBe(total);
  });

  it('has no gauges before there is a gateway, and says so with valid text', async () => {
    const { metrics } = setUp();
    const { value } = parsePrometheus(await metrics.render());
    expect(value('fieldpost_upstream_connected')).toBeUndefined();
  });
});
