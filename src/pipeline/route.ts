// Which messages go where. Without written routes everything goes to `$upstream`. Written routes follow Azure IoT Hub's
// rules (contract/service-08, section 2): every matching route, once an endpoint, and the fallback `$upstream` for what
// no route takes, so that adding a route for alarms never loses the rest.

import { UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import type { Message } from '../core/message.ts';
import type { QueueDefinition, QueueName } from '../core/outbox.ts';
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

export interface Router {
  /** The queues that the outbox has to keep for these routes. */
  readonly queues: readonly QueueDefinition[];
  /** The `routed` queues of a message; undefined when nothing takes it. */
  route(message: Message): readonly QueueName[] | undefined;
}

const NONE: readonly QueueName[] = Object.freeze([]);

/** @throws ConditionError for a condition that the configuration's check would have refused. */
export function createRouter(options: {
  readonly endpoints: readonly EndpointQueue[];
  readonly routes: readonly RouteDefinition[];
}): Router {
  const hasUpstream = options.endpoints.some(({ name }) => name === UPSTREAM_ENDPOINT);
  const routes = options.routes.filter(({ enabled }) => enabled);
  const takesAll = new Set(routes.filter(({ condition }) => isAlwaysTrue(condition)).map(({ endpoint }) => endpoint));
  if (options.routes.length === 0 && hasUpstream) takesAll.add(UPSTREAM_ENDPOINT);

  const conditional = routes
    .filter(({ endpoint }) => !takesAll.has(endpoint))
    .map(({ endpoint, condition }): { endpoint: QueueName; matches: Condition } => ({
      endpoint,
      matches: compileCondition(condition),
    }));
  // The fallback is for what no route takes; a route that takes all leaves nothing to it.
  const fallback: readonly QueueName[] | undefined =
    takesAll.size > 0 ? NONE : hasUpstream && options.routes.length > 0 ? [UPSTREAM_ENDPOINT] : undefined;

  return {
    queues: options.endpoints.map(({ name, order, maxBytes }) => ({
      name,
      takes: takesAll.has(name) ? 'all' : 'routed',
      order,
      ...(maxBytes === undefined ? {} : { maxBytes }),
    })),
    route(message) {
      if (conditional.length === 0) return fallback;
      const queues: QueueName[] = [];
      for (const { endpoint, matches } of conditional) {
        if (!queues.includes(endpoint) && matches(message)) queues.push(endpoint);
      }
      return queues.length > 0 ? queues : fallback;
    },
  };
}
