// The catalogue of telemetry events: each decides level, sentence, fields and counters in one place. A part emits an
// event by name and never logs or counts the same fact a second time. Rows are added by whoever emits them.

import type { LogFields } from '../core/log.ts';

export interface CounterRow {
  /** Prometheus name, `_total` at the end. */
  readonly name: string;
  readonly help: string;
  /** Fields of the event that become labels; low cardinality only (never device ids or texts of peers). */
  readonly labels?: readonly string[];
  /** Field that holds the increment; default 1. */
  readonly by?: string;
}

export interface EventRow {
  /** `error`: data was lost or a person is needed. `none`: counted only. */
  readonly level: 'none' | 'debug' | 'info' | 'warn' | 'error';
  /** A sentence for people: capitalised, ends with a full stop, no data in it. */
  readonly text: string;
  readonly counters?: readonly CounterRow[];
  /** At most one log line per this many ms for the same `key` field; repeats are counted and told with the next. */
  readonly everyMs?: number;
  /** Kept among the recent events that the status page shows. */
  readonly recent?: boolean;
}

export const EVENTS = {
  gateway_started: { level: 'info', text: 'The gateway runs.', recent: true },
  gateway_stopping: { level: 'info', text: 'The gateway stops.' },
  messages_received: {
    level: 'none',
    text: 'Messages came in.',
    counters: [
      {
        name: 'fieldpost_messages_received_total',
        help: 'Messages handed to ingress.',
        labels: ['source'],
        by: 'count',
      },
    ],
  },
  readings_suppressed: {
    level: 'none',
    text: 'Readings were not worth a message.',
    counters: [
      {
        name: 'fieldpost_readings_suppressed_total',
        help: 'Readings that no message carries, by reason: deadband, rate (limit) or window (part of its value).',
        labels: ['reason'],
        by: 'count',
      },
    ],
  },
  messages_dropped: {
    level: 'error',
    text: 'Messages were lost.',
    counters: [
      { name: 'fieldpost_messages_dropped_total', help: 'Messages lost, by reason.', labels: ['reason'], by: 'count' },
    ],
    everyMs: 10_000,
    recent: true,
  },
  retention_shortened: {
    level: 'warn',
    text: 'Events of the hub were given up before their retention was over, because the outbox needed the room.',
    counters: [
      {
        name: 'fieldpost_retained_events_shortened_total',
        help: 'Events of the hub given up before their retention was over, by reason.',
        labels: ['reason'],
        by: 'count',
      },
    ],
    everyMs: 60_000,
    recent: true,
  },
  messages_unrouted: {
    level: 'warn',
    text: 'A message matched no route and there is no upstream, or its device is shut out of the local hub; it was not stored.',
    counters: [{ name: 'fieldpost_messages_unrouted_total', help: 'Messages that no route took.', by: 'count' }],
    everyMs: 60_000,
    recent: true,
  },
  ingress_paused: { level: 'warn', text: 'The outbox takes no more for now; sources are slowed down.', recent: true },
  ingress_resumed: { level: 'info', text: 'The outbox takes messages again.', recent: true },
  config_applied: { level: 'info', text: 'A change of the configuration is in use.', recent: true },
  config_confirmed: { level: 'info', text: 'A configuration on trial was confirmed.', recent: true },
  config_reverted: { level: 'warn', text: 'The configuration before the last change runs again.', recent: true },
  config_refused: { level: 'error', text: 'The edited configuration has faults; what ran goes on.', recent: true },
  config_not_applied: {
    level: 'error',
    text: 'A change of the configuration could not be applied and was taken back.',
    recent: true,
  },
  clock_known: { level: 'info', text: 'The clock is synchronised; unsent readings are corrected.', recent: true },
  clock_record_failed: {
    level: 'warn',
    text: 'The offset of the clock could not be stored; it is tried again.',
    everyMs: 60_000,
  },
  adapter_failed: {
    level: 'error',
    text: 'An adapter could not start; it is tried again.',
    everyMs: 60_000,
    recent: true,
    counters: [{ name: 'fieldpost_adapter_failures_total', help: 'Failed starts of adapters.' }],
  },
  adapter_started: { level: 'info', text: 'An adapter runs.' },
  adapter_left_behind: {
    level: 'error',
    text: 'An adapter has not stopped in its time; nobody waits for it any longer.',
    recent: true,
  },
  adapter_stopped: { level: 'info', text: 'An adapter stopped.' },
  device_state_changed: { level: 'info', text: 'A leaf device changed its state.', everyMs: 1000, recent: true },
  point_written: { level: 'info', text: 'A value was written to a point.', recent: true },
  point_write_failed: {
    level: 'warn',
    text: 'A value could not be written to a point.',
    everyMs: 1000,
    recent: true,
  },
  action_done: { level: 'info', text: 'A device did an action.', recent: true },
  action_failed: { level: 'warn', text: 'A device did not do an action.', everyMs: 1000, recent: true },
  command_answered: {
    level: 'debug',
    text: 'A command was answered.',
    counters: [
      { name: 'fieldpost_commands_total', help: 'Commands that were answered, by status.', labels: ['status'] },
    ],
  },
  command_ignored: {
    level: 'warn',
    text: 'A command was ignored, or its answer could not be sent.',
    everyMs: 10_000,
    recent: true,
    counters: [
      {
        name: 'fieldpost_commands_ignored_total',
        help: 'Commands that were ignored or whose answer was lost, by reason.',
        labels: ['reason'],
      },
    ],
  },
  commands_not_received: {
    level: 'warn',
    text: 'What commands come by was refused or lost; it is tried again.',
    everyMs: 60_000,
    recent: true,
  },
  command_not_kept: {
    level: 'error',
    text: 'What became of a command could not be stored.',
    everyMs: 10_000,
    recent: true,
  },
  budget_near: {
    level: 'warn',
    text: 'An endpoint has used 80 % of the bytes that it may use in a month.',
    recent: true,
  },
  budget_spent: {
    level: 'error',
    text: 'An endpoint has used the bytes that it may use in a month; but for urgent messages and commands it is quiet until the next.',
    recent: true,
  },
  budget_renewed: { level: 'info', text: 'A month of the byte budget of an endpoint begins.', recent: true },
  budget_not_kept: {
    level: 'warn',
    text: 'The bytes that an endpoint has used could not be stored; counting goes on.',
    everyMs: 60_000,
  },
  endpoint_connected: {
    level: 'info',
    text: 'An endpoint is connected.',
    recent: true,
    counters: [{ name: 'fieldpost_endpoint_connects_total', help: 'Connections made.', labels: ['endpoint'] }],
  },
  endpoint_disconnected: {
    level: 'warn',
    text: 'An endpoint lost its connection; messages are kept and it is tried again.',
    recent: true,
    counters: [
      {
        name: 'fieldpost_endpoint_disconnects_total',
        help: 'Connections lost, by kind of failure.',
        labels: ['endpoint', 'kind'],
      },
    ],
  },
  endpoint_unreachable: {
    level: 'warn',
    text: 'An endpoint could not be connected; messages are kept and it is tried again.',
    everyMs: 60_000,
    recent: true,
    counters: [
      {
        name: 'fieldpost_endpoint_connect_failures_total',
        help: 'Failed attempts to connect, by kind of failure.',
        labels: ['endpoint', 'kind'],
      },
    ],
  },
  endpoint_failed: {
    level: 'error',
    text: 'An endpoint could not read or write its queue; it is tried again.',
    everyMs: 60_000,
    recent: true,
    counters: [
      {
        name: 'fieldpost_endpoint_failures_total',
        help: 'Failures of the queue of an endpoint.',
        labels: ['endpoint'],
      },
    ],
  },
  messages_delivered: {
    level: 'none',
    text: 'Messages were accepted by an endpoint.',
    counters: [
      {
        name: 'fieldpost_messages_delivered_total',
        help: 'Messages that an endpoint accepted.',
        labels: ['endpoint'],
        by: 'count',
      },
    ],
  },
  delivery_retried: {
    level: 'warn',
    text: 'An endpoint refuses messages for now; what it refused is kept and tried again.',
    everyMs: 60_000,
    recent: true,
    counters: [
      {
        name: 'fieldpost_delivery_retries_total',
        help: 'Pauses of a queue, or of one device in it, that an endpoint asked for, by kind.',
        labels: ['endpoint', 'kind'],
      },
    ],
  },
  message_rejected: {
    level: 'error',
    text: 'An endpoint will never accept a message; it was put into quarantine.',
    everyMs: 10_000,
    recent: true,
    counters: [
      {
        name: 'fieldpost_messages_rejected_total',
        help: 'Messages put into quarantine because an endpoint refused them.',
        labels: ['endpoint'],
      },
    ],
  },
  poison_suspected: {
    level: 'warn',
    text: 'A message is suspected of ending its connection; the queue is sent one message at a time for a while.',
    everyMs: 60_000,
    recent: true,
  },
  message_quarantined: {
    // Whoever moved it there says why; the outbox only counts.
    level: 'none',
    text: 'A message was moved to quarantine.',
    counters: [
      { name: 'fieldpost_messages_quarantined_total', help: 'Messages moved to quarantine.', labels: ['queue'] },
    ],
  },
  outbox_write_failed: {
    level: 'error',
    text: 'A write to the outbox failed; the store is being reopened and verified.',
    counters: [{ name: 'fieldpost_outbox_write_failures_total', help: 'Failed writes and syncs of the outbox.' }],
    everyMs: 10_000,
    recent: true,
  },
  outbox_reopened: { level: 'warn', text: 'The outbox was reopened and takes messages again.', recent: true },
  state_failed: {
    level: 'error',
    text: 'The state store failed or does not open; it is being reopened and verified.',
    counters: [
      { name: 'fieldpost_state_failures_total', help: 'Failed openings, reads and writes of the state store.' },
    ],
    everyMs: 10_000,
    recent: true,
  },
  state_reopened: { level: 'warn', text: 'The state store was reopened and is in use again.', recent: true },
  store_salvaged: {
    level: 'error',
    text: 'A damaged store was copied aside and what could be read was kept.',
    counters: [{ name: 'fieldpost_store_salvages_total', help: 'Stores that were salvaged.', labels: ['store'] }],
    recent: true,
  },
  field_exchange: {
    level: 'none',
    text: 'A request to a leaf device ended.',
    counters: [
      {
        name: 'fieldpost_field_exchanges_total',
        help: 'Requests to leaf devices, by outcome: `ok` or a stable reason.',
        labels: ['outcome'],
      },
    ],
  },
  field_refused: {
    level: 'warn',
    text: 'A peer on the field side was refused.',
    everyMs: 60_000,
    counters: [
      {
        name: 'fieldpost_field_refusals_total',
        help: 'What peers on the field side were refused (connections, messages, subscriptions), by reason.',
        labels: ['reason'],
      },
    ],
  },
  device_polled: {
    level: 'none',
    text: 'A leaf device was polled.',
    counters: [
      { name: 'fieldpost_polls_total', help: 'Polls of leaf devices.' },
      { name: 'fieldpost_polls_missed_total', help: 'Polls left out because the bus was busy.', by: 'missed' },
    ],
  },
  watchdog_withheld: {
    level: 'error',
    text: 'The watchdog is not told that all is well, because something makes no progress.',
    everyMs: 10_000,
    recent: true,
  },
  hub_refused: {
    level: 'debug',
    text: 'A client of the local hub was turned away or cut off.',
    everyMs: 60_000,
    counters: [
      {
        name: 'iothub_refusals_total',
        help: 'Connections and requests that the local hub turned away or cut off, by reason.',
        labels: ['reason'],
      },
    ],
  },
  hub_login_refused: {
    level: 'warn',
    text: 'A client of the local hub was refused its log-in.',
    everyMs: 60_000,
    counters: [
      {
        name: 'iothub_logins_refused_total',
        help: 'Log-ins that the local hub refused, by protocol and reason.',
        labels: ['protocol', 'reason'],
      },
    ],
  },
  hub_feedback_dropped: {
    level: 'warn',
    text: 'Feedback on cloud-to-device messages was dropped, because nobody fetched it.',
    everyMs: 60_000,
    counters: [
      {
        name: 'iothub_feedback_dropped_total',
        help: 'Records of feedback that nobody fetched, by reason: full, expired or delivery_count.',
        labels: ['reason'],
        by: 'count',
      },
    ],
  },
  hub_policies_unread: {
    level: 'error',
    text: 'The keys of the shared access policies of the local hub could not be read; they are read again when they are needed.',
    everyMs: 60_000,
    recent: true,
  },
  hub_keys_unreadable: {
    level: 'error',
    text: 'The sealed keys of an identity of the local hub could not be opened; lists show it without keys. Give it new ones (both at once), or bring back `secrets/master.key`.',
    everyMs: 60_000,
    recent: true,
  },
  hub_partitions_fixed: {
    level: 'warn',
    text: 'The events of the local hub keep the number of partitions that they were first stored with, whatever is configured now.',
    recent: true,
  },
  hub_certificate_near_end: {
    level: 'warn',
    text: 'A certificate of the local hub nears its end. Put another in its place; it is taken up on SIGHUP.',
    recent: true,
  },
  hub_certificate_expired: {
    level: 'error',
    text: 'A certificate of the local hub has expired; clients refuse it, or are refused. Put another in its place; it is taken up on SIGHUP.',
    recent: true,
  },
  hub_will_lost: {
    level: 'warn',
    text: 'The will of a client of the local hub was not sent, and is not kept.',
    everyMs: 60_000,
  },
  twin_not_synchronised: {
    level: 'warn',
    text: 'A twin upstream could not be brought up to date; it is tried again where that can help.',
    everyMs: 60_000,
    recent: true,
  },
  hub_twins_unread: {
    level: 'warn',
    text: 'What devices reported while the cloud was away could not be read from the store of the local hub; it is read again.',
    everyMs: 60_000,
  },
  hub_device_not_synchronised: {
    level: 'warn',
    text: 'A device of an adapter could not be registered with the local hub, or its twin not be brought up to date.',
    everyMs: 60_000,
  },
  hub_device_shut_out: {
    level: 'warn',
    text: 'The identity of a device of an adapter was disabled or deleted, or it has none: in the local hub it counts as disconnected, and what it sends is not among the events.',
    recent: true,
  },
  web_listening: { level: 'info', text: 'The web page is ready.' },
  web_unavailable: {
    level: 'warn',
    text: 'The web server cannot listen; the gateway runs on and tries again.',
    everyMs: 300_000,
    recent: true,
  },
} as const satisfies Record<string, EventRow>;

export type EventName = keyof typeof EVENTS;

/** What parts are handed to tell what happened. */
export interface Telemetry {
  emit(name: EventName, fields?: LogFields): void;
}
