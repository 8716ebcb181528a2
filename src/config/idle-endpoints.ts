// Endpoints that no message reaches: allowed, because a route may come later or be switched off for a while, but seldom meant.

import { UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import type { Explained } from './explain.ts';
import type { GatewayConfig } from './config.ts';

/** Those of `endpoints:` that no route names, and the upstream when a route takes everything and none names it. */
export function idleEndpoints({ endpoints, upstream, routes }: GatewayConfig): Explained[] {
  const enabled = routes.filter((route) => route.enabled);
  const named = new Set(enabled.map(({ endpoint }) => endpoint));
  const idle = endpoints
    .filter((endpoint) => endpoint.enabled && !named.has(endpoint.name))
    .map(({ name }): Explained => {
      const message = `gets no messages, because no route that is enabled names it; add { name: ${name}, endpoint: ${name} } to routes.`;
      return { path: ['endpoints', name], at: 'key', message };
    });
  // The upstream is the fallback: it gets what no route takes.
  const all = enabled.find(({ condition }) => condition.trim().toLowerCase() === 'true');
  if (upstream?.enabled === true && all !== undefined && !named.has(UPSTREAM_ENDPOINT)) {
    const message = `gets no messages, because the route ${all.name} takes all of them and no route names ${UPSTREAM_ENDPOINT}.`;
    idle.push({ path: ['upstream'], at: 'key', message });
  }
  return idle;
}
