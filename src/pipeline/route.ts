// Which messages go where. Without written routes everything goes to `$upstream`, when there is one, and to the hub's
// `events`, when it is on. Written routes follow Azure IoT Hub's rules (contract/service-08, section 2): every matching
// route, once an endpoint; what no route takes falls back to those two, so that adding a route for alarms never loses the
// rest.

import { EVENTS_ENDPOINT, UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import type { Message } from '../core/message.ts';
import type { OutboxEntry, QueueDefinition, QueueName, StreamPlace } from '../core/outbox.ts';
import { compileCondition, isAlwaysTrue, type Condition } from './condition.ts';

export interface RouteDefinition {
  readonly name: string;
  readonly condition: string;
  readonly endpoint: QueueName;
  readonly enabled: boolean;
}

/** What of an endpoint matters to its queue. */
export interface EndpointQueue {
  readonly name: QueueName;
  readonly order: 'live_first' | 'strict';
  readonly maxBytes?: number;
}

/** Where a message goes. */
export type Destinations = Pick<OutboxEntry, 'queues' | 'stream'>;

export interface Router {
  /** The queues that the outbox has to keep for these routes. */
  readonly queues: readonly QueueDefinition[];
  /** The `routed` queues of a message, and its place in the hub's events; undefined when nothing takes it. */
  route(message: Message): Destinations | undefined;
}

export interface RouterOptions {
  readonly endpoints: readonly EndpointQueue[];
  readonly routes: readonly RouteDefinition[];
  /** The place of a message in the events of its hub, if they are to have it. Absent: the hub is off, and has none. */
  readonly events?: (message: Message) => StreamPlace | undefined;
}

const NOWHERE_ELSE: readonly QueueName[] = Object.freeze([]);

/** @throws ConditionError for a condition that the configuration's check would have refused. */
export function createRouter(options: RouterOptions): Router {
  const { events } = options;
  const hasUpstream = options.endpoints.some(({ name }) => name === UPSTREAM_ENDPOINT);
  const routes = options.routes.filter(
    ({ enabled, endpoint }) => enabled && (endpoint !== EVENTS_ENDPOINT || events !== undefined),
  );
  const takesAll = new Set(routes.filter(({ condition }) => isAlwaysTrue(condition)).map(({ endpoint }) => endpoint));
  const implicit = [...(hasUpstream ? [UPSTREAM_ENDPOINT] : []), ...(events === undefined ? [] : [EVENTS_ENDPOINT])];
  if (options.routes.length === 0) for (const name of implicit) takesAll.add(name);

  const conditional = routes
    .filter(({ endpoint }) => !takesAll.has(endpoint))
    .map(({ endpoint, condition }): { endpoint: QueueName; matches: Condition } => ({
      endpoint,
      matches: compileCondition(condition),
    }));
  // The fallback is for what no route takes; a route that takes all leaves nothing to it.
  const fallback = takesAll.size > 0 ? [] : implicit;

  const queuesTakeAll = [...takesAll].some((name) => name !== EVENTS_ENDPOINT);
  // Where nothing depends on the message, all share one answer.
  const unconditional: Destinations | undefined =
    conditional.length === 0 && events === undefined && (takesAll.size > 0 || fallback.length > 0)
      ? Object.freeze({ queues: fallback.length === 0 ? NOWHERE_ELSE : Object.freeze([...fallback]) })
      : undefined;

  return {
    queues: options.endpoints.map(({ name, order, maxBytes }) => ({
      name,
      takes: takesAll.has(name) ? 'all' : 'routed',
      order,
      ...(maxBytes === undefined ? {} : { maxBytes }),
    })),
    route(message) {
      if (unconditional !== undefined) return unconditional;
      const names: QueueName[] = [];
      for (const { endpoint, matches } of conditional) {
        if (!names.includes(endpoint) && matches(message)) names.push(endpoint);
      }
      if (names.length === 0) {
        if (takesAll.size === 0 && fallback.length === 0) return undefined;
        names.push(...fallback);
      }
      const toEvents = events !== undefined && (takesAll.has(EVENTS_ENDPOINT) || names.includes(EVENTS_ENDPOINT));
      const queues = names.length === 0 ? NOWHERE_ELSE : names.filter((name) => name !== EVENTS_ENDPOINT);
      const stream = toEvents ? events(message) : undefined;
      if (stream !== undefined) return { queues, stream };
      // What the events alone were to have, and do not.
      return toEvents && !queuesTakeAll && queues.length === 0 ? undefined : { queues };
    },
  };
}
