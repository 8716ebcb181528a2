// The catalogue of gauges and histograms: name, meaning, labels and where the value comes from. Counters stand with the
// events that feed them (events.ts); both are listed by `renderMetricsReference`.

import type { HealthSummary } from '../core/admin.ts';
import type { ClockQuality } from '../core/time.ts';
import type { DeviceState } from '../core/device.ts';
import { LIMITS, type LimitName } from '../core/limits.ts';
import type { OutboxStats } from '../core/outbox.ts';
import type { ServiceStatus } from '../core/service.ts';
import type { EventLoopLag } from '../platform/event-loop.ts';
import type { CounterSample } from './event-counters.ts';

/** What the gateway knows when Prometheus asks. */
export interface MetricsSnapshot {
  readonly version: string;
  readonly outbox: OutboxStats | undefined;
  readonly health: HealthSummary;
  readonly endpoints: readonly {
    readonly name: string;
    readonly connected: boolean;
    /** By flow. */
    readonly bytes: Readonly<Record<string, number>>;
    readonly budget: { readonly monthlyBytes: number; readonly usedBytes: number } | undefined;
  }[];
  /** Count of adapters by state. */
  readonly adapters: Partial<Readonly<Record<ServiceStatus, number>>>;
  readonly devices: Partial<Readonly<Record<DeviceState, number>>>;
  readonly clock: ClockQuality;
  readonly eventLoop: EventLoopLag;
  readonly memory: { readonly rssBytes: number; readonly heapUsedBytes: number };
  readonly cpuSeconds: number;
  readonly startedAtSecs: number;
  /** Present value of what a limit bounds, where it is known. */
  readonly inUse: Partial<Readonly<Record<LimitName, number>>>;
}

export interface GaugeRow {
  readonly name: string;
  /** `counter`: a sum that its owner keeps. */
  readonly type: 'gauge' | 'counter';
  readonly help: string;
  readonly labels?: readonly string[];
  readonly read: (snapshot: MetricsSnapshot) => readonly CounterSample[];
}

export interface HistogramRow {
  readonly name: string;
  readonly help: string;
  /** Upper bounds in the unit of the name. */
  readonly buckets: readonly number[];
}

const one = (value: number | undefined): readonly CounterSample[] =>
  value === undefined ? [] : [{ labels: {}, value }];
const flag = (value: boolean): number => (value ? 1 : 0);

function byLabel(label: string, values: Readonly<Record<string, number | undefined>>): readonly CounterSample[] {
  return Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [{ labels: { [label]: name }, value }],
  );
}

function perQueue(read: (queue: OutboxStats['queues'][number]) => number | undefined): GaugeRow['read'] {
  return ({ outbox }) =>
    (outbox?.queues ?? []).flatMap((queue) => {
      const value = read(queue);
      return value === undefined ? [] : [{ labels: { queue: queue.name }, value }];
    });
}

type EndpointBudget = NonNullable<MetricsSnapshot['endpoints'][number]['budget']>;

function perBudget(read: (budget: EndpointBudget) => number): GaugeRow['read'] {
  return ({ endpoints }) =>
    endpoints.flatMap(({ name, budget }) =>
      budget === undefined ? [] : [{ labels: { endpoint: name }, value: read(budget) }],
    );
}

const SERVICE_STATES: readonly ServiceStatus[] = ['stopped', 'starting', 'running', 'degraded', 'draining', 'failed'];
const DEVICE_STATES: readonly DeviceState[] = ['unknown', 'good', 'degraded', 'offline'];
const CLOCK_QUALITIES: readonly ClockQuality[] = ['synced', 'rtc', 'restored', 'unknown'];

/** Every word of a state is exported, with 0 where there is none, so that a graph has no gaps. */
function everyState<State extends string>(
  states: readonly State[],
  counts: Partial<Readonly<Record<State, number>>>,
): readonly CounterSample[] {
  return states.map((state) => ({ labels: { state }, value: counts[state] ?? 0 }));
}

export const GAUGES: readonly GaugeRow[] = [
  {
    name: 'fieldpost_build_info',
    type: 'gauge',
    help: 'Always 1; the release is in the label.',
    labels: ['version'],
    read: ({ version }) => [{ labels: { version }, value: 1 }],
  },
  {
    name: 'fieldpost_live',
    type: 'gauge',
    help: '1 while the process can do its work.',
    read: ({ health }) => one(flag(health.live)),
  },
  {
    name: 'fieldpost_ready',
    type: 'gauge',
    help: '1 while messages are taken and stored.',
    read: ({ health }) => one(flag(health.ready)),
  },
  {
    name: 'fieldpost_degraded',
    type: 'gauge',
    help: '1 while some part does less than configured.',
    read: ({ health }) => one(flag(health.degraded)),
  },
  {
    name: 'fieldpost_messages_stored_total',
    type: 'counter',
    help: 'Messages stored durably in the outbox.',
    read: ({ outbox }) => one(outbox?.appendedTotal),
  },
  {
    name: 'fieldpost_commits_total',
    type: 'counter',
    help: 'Group commits of the outbox.',
    read: ({ outbox }) => one(outbox?.commitsTotal),
  },
  {
    name: 'fieldpost_outbox_messages',
    type: 'gauge',
    help: 'Messages in the outbox that some endpoint has not accepted yet.',
    read: ({ outbox }) => one(outbox?.messages),
  },
  {
    name: 'fieldpost_outbox_bytes',
    type: 'gauge',
    help: 'Bytes of those messages in the log.',
    read: ({ outbox }) => one(outbox?.bytes),
  },
  {
    name: 'fieldpost_outbox_oldest_age_seconds',
    type: 'gauge',
    help: 'Age of the oldest message in the outbox; 0 when it is empty.',
    read: ({ outbox }) => (outbox === undefined ? [] : one((outbox.oldestAgeMs ?? 0) / 1000)),
  },
  {
    name: 'fieldpost_outbox_disk_bytes',
    type: 'gauge',
    help: 'Bytes that the store takes on disk.',
    read: ({ outbox }) => one(outbox?.diskBytes),
  },
  {
    name: 'fieldpost_outbox_free_bytes',
    type: 'gauge',
    help: 'Bytes free on the file system of the store.',
    read: ({ outbox }) => one(outbox?.freeBytes),
  },
  {
    name: 'fieldpost_outbox_full',
    type: 'gauge',
    help: '1 while `reject` or `drop_newest` refuses messages for want of room.',
    read: ({ outbox }) => (outbox === undefined ? [] : one(flag(outbox.full))),
  },
  {
    name: 'fieldpost_outbox_waiting_appends',
    type: 'gauge',
    help: 'Messages that wait for a commit.',
    read: ({ outbox }) => one(outbox?.waitingAppends),
  },
  {
    name: 'fieldpost_quarantine_messages',
    type: 'gauge',
    help: 'Messages in quarantine.',
    read: ({ outbox }) => one(outbox?.quarantined),
  },
  {
    name: 'fieldpost_queue_messages',
    type: 'gauge',
    help: 'Messages that an endpoint has not accepted yet.',
    labels: ['queue'],
    read: perQueue((queue) => queue.messages),
  },
  {
    name: 'fieldpost_queue_bytes',
    type: 'gauge',
    help: 'Bytes that an endpoint has not accepted yet.',
    labels: ['queue'],
    read: perQueue((queue) => queue.bytes),
  },
  {
    name: 'fieldpost_queue_history_messages',
    type: 'gauge',
    help: 'Of those, messages of the history lane.',
    labels: ['queue'],
    read: perQueue((queue) => queue.history.messages),
  },
  {
    name: 'fieldpost_queue_in_flight_messages',
    type: 'gauge',
    help: 'Messages handed to an endpoint and not answered yet.',
    labels: ['queue'],
    read: perQueue((queue) => queue.inFlight),
  },
  {
    name: 'fieldpost_queue_oldest_age_seconds',
    type: 'gauge',
    help: 'Age of the oldest message that an endpoint has not accepted; 0 when there is none.',
    labels: ['queue'],
    read: perQueue((queue) => (queue.oldestAgeMs ?? 0) / 1000),
  },
  {
    name: 'fieldpost_upstream_connected',
    type: 'gauge',
    help: '1 while the endpoint is connected.',
    labels: ['endpoint'],
    read: ({ endpoints }) =>
      endpoints.map(({ name, connected }) => ({ labels: { endpoint: name }, value: flag(connected) })),
  },
  {
    name: 'fieldpost_endpoint_bytes_total',
    type: 'counter',
    help: 'Bytes of bodies and properties as they were sent or came, by flow: live and history (messages), answers; commands (down).',
    labels: ['endpoint', 'direction', 'flow'],
    read: ({ endpoints }) =>
      endpoints.flatMap(({ name, bytes }) =>
        Object.entries(bytes).map(([flow, value]) => ({
          labels: { endpoint: name, direction: flow === 'commands' ? 'down' : 'up', flow },
          value,
        })),
      ),
  },
  {
    name: 'fieldpost_endpoint_budget_bytes',
    type: 'gauge',
    help: 'Bytes that an endpoint with a budget may use in a month.',
    labels: ['endpoint'],
    read: perBudget(({ monthlyBytes }) => monthlyBytes),
  },
  {
    name: 'fieldpost_endpoint_budget_used_bytes',
    type: 'gauge',
    help: 'Bytes that it has used of them.',
    labels: ['endpoint'],
    read: perBudget(({ usedBytes }) => usedBytes),
  },
  {
    name: 'fieldpost_adapters',
    type: 'gauge',
    help: 'Adapters by state.',
    labels: ['state'],
    read: ({ adapters }) => everyState(SERVICE_STATES, adapters),
  },
  {
    name: 'fieldpost_devices',
    type: 'gauge',
    help: 'Leaf devices by state.',
    labels: ['state'],
    read: ({ devices }) => everyState(DEVICE_STATES, devices),
  },
  {
    name: 'fieldpost_clock',
    type: 'gauge',
    help: '1 for what the wall clock is believed to be.',
    labels: ['state'],
    read: ({ clock }) => everyState(CLOCK_QUALITIES, { [clock]: 1 }),
  },
  {
    name: 'fieldpost_event_loop_lag_seconds',
    type: 'gauge',
    help: 'Delay of the event loop over the last 10 to 20 s.',
    labels: ['quantile'],
    read: ({ eventLoop }) =>
      byLabel('quantile', {
        '0.5': eventLoop.p50Ms / 1000,
        '0.99': eventLoop.p99Ms / 1000,
        '1': eventLoop.maxMs / 1000,
      }),
  },
  {
    name: 'fieldpost_memory_rss_bytes',
    type: 'gauge',
    help: 'Resident memory of the process.',
    read: ({ memory }) => one(memory.rssBytes),
  },
  {
    name: 'fieldpost_memory_heap_used_bytes',
    type: 'gauge',
    help: 'JavaScript heap in use.',
    read: ({ memory }) => one(memory.heapUsedBytes),
  },
  {
    name: 'fieldpost_cpu_seconds_total',
    type: 'counter',
    help: 'CPU time that the process has used.',
    read: ({ cpuSeconds }) => one(cpuSeconds),
  },
  {
    name: 'fieldpost_start_time_seconds',
    type: 'gauge',
    help: 'Wall clock at the start of the process, in seconds since 1970 (as it was believed then).',
    read: ({ startedAtSecs }) => one(startedAtSecs),
  },
  {
    name: 'fieldpost_limit',
    type: 'gauge',
    help: 'Every bound of the system, by name.',
    labels: ['name'],
    read: () => byLabel('name', LIMITS),
  },
  {
    name: 'fieldpost_limit_used',
    type: 'gauge',
    help: 'Present value of what a limit bounds, where it is known.',
    labels: ['name'],
    read: ({ inUse }) => byLabel('name', inUse),
  },
];

export const HISTOGRAMS = {
  pollLateness: {
    name: 'fieldpost_poll_lateness_seconds',
    help: 'How much later than due a poll began.',
    buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
  },
  pollDuration: {
    name: 'fieldpost_poll_duration_seconds',
    help: 'How long a poll of one device took.',
    buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
  },
  commitSync: {
    name: 'fieldpost_commit_sync_seconds',
    help: 'How long the synced write of a group commit took.',
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
  },
} as const satisfies Record<string, HistogramRow>;

export type HistogramName = keyof typeof HISTOGRAMS;
