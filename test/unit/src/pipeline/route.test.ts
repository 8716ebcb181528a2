import { describe, expect, it } from 'vitest';
import { createRouter, type RouteDefinition } from '../../../../src/pipeline/route.ts';
import { message } from '../../../support/builders.ts';

const upstream = { name: '$upstream', order: 'live_first' } as const;
const cloud = { name: 'cloud-2', order: 'strict', maxBytes: 1000 } as const;
const alarm = message({ properties: { level: 'alarm' } });
const info = message({ properties: { level: 'info' } });

function route(condition: string, endpoint: string, enabled = true): RouteDefinition {
  return { name: `to-${endpoint}`, condition, endpoint, enabled };
}

describe('createRouter', () => {
  it('sends everything upstream without routes, at the cost of a cursor', () => {
    const router = createRouter({ endpoints: [upstream, cloud], routes: [] });
    expect(router.queues).toEqual([
      { name: '$upstream', takes: 'all', order: 'live_first' },
      { name: 'cloud-2', takes: 'routed', order: 'strict', maxBytes: 1000 },
    ]);
    expect(router.route(alarm)).toEqual({ queues: [] });
  });

  it('sends what matches to its endpoint once, and the rest to the fallback', () => {
    const router = createRouter({
      endpoints: [upstream, cloud],
      routes: [
        route("level = 'alarm'", 'cloud-2'),
        route('IS_DEFINED(level)', 'cloud-2', false),
        route("level IN ['alarm']", 'cloud-2'),
      ],
    });
    expect(router.route(alarm)).toEqual({ queues: ['cloud-2'] });
    expect(router.route(info)).toEqual({ queues: ['$upstream'] });
    expect(router.queues.map(({ takes }) => takes)).toEqual(['routed', 'routed']);
  });

  it('has no fallback beside a route that takes everything', () => {
    const router = createRouter({
      endpoints: [upstream, cloud],
      routes: [route('true', 'cloud-2'), route("level = 'alarm'", '$upstream')],
    });
    expect(router.queues.map(({ takes }) => takes)).toEqual(['routed', 'all']);
    expect(router.route(alarm)).toEqual({ queues: ['$upstream'] });
    expect(router.route(info)).toEqual({ queues: [] });
  });

  it('says so when nothing takes a message', () => {
    expect(createRouter({ endpoints: [], routes: [] }).route(info)).toBeUndefined();
    expect(
      createRouter({ endpoints: [cloud], routes: [route("level = 'alarm'", 'cloud-2')] }).route(info),
    ).toBeUndefined();
  });

  it('keeps the fallback when every written route is switched off', () => {
    const router = createRouter({ endpoints: [upstream, cloud], routes: [route('true', 'cloud-2', false)] });
    expect(router.route(info)).toEqual({ queues: ['$upstream'] });
  });

  describe('with the hub on', () => {
    const stream = { name: 'events/hub', partition: 3 };
    const events = (): typeof stream => stream;

    it('sends everything to its events, and upstream when there is one', () => {
      const alone = createRouter({ endpoints: [], routes: [], events });
      expect(alone).toMatchObject({ queues: [] });
      expect(alone.route(info)).toEqual({ queues: [], stream });
      const both = createRouter({ endpoints: [upstream, cloud], routes: [], events });
      expect(both.queues.map(({ takes }) => takes)).toEqual(['all', 'routed']);
      expect(both.route(info)).toEqual({ queues: [], stream });
    });

    it('sends to its events what a route names for them, and what no route takes', () => {
      const router = createRouter({
        endpoints: [upstream, cloud],
        routes: [route("level = 'alarm'", 'cloud-2'), route("level = 'debug'", 'events')],
        events,
      });
      expect(router.route(alarm)).toEqual({ queues: ['cloud-2'] });
      expect(router.route(message({ properties: { level: 'debug' } }))).toEqual({ queues: [], stream });
      expect(router.route(info)).toEqual({ queues: ['$upstream'], stream });
      const all = createRouter({
        endpoints: [cloud],
        routes: [route("level = 'alarm'", 'cloud-2'), route('true', 'events')],
        events,
      });
      expect(all.route(alarm)).toEqual({ queues: ['cloud-2'], stream });
      expect(all.route(info)).toEqual({ queues: [], stream });
    });

    it('keeps from its events what they are not to have; that is lost where nothing else takes it', () => {
      const shut = { events: () => undefined };
      expect(createRouter({ endpoints: [], routes: [], ...shut }).route(info)).toBeUndefined();
      expect(createRouter({ endpoints: [upstream], routes: [], ...shut }).route(info)).toEqual({ queues: [] });
      const routes = [route("level = 'alarm'", 'cloud-2'), route('true', 'events')];
      const written = createRouter({ endpoints: [cloud], routes, ...shut });
      expect(written.route(alarm)).toEqual({ queues: ['cloud-2'] });
      expect(written.route(info)).toBeUndefined();
      expect(createRouter({ endpoints: [upstream, cloud], routes: routes.slice(0, 1), ...shut }).route(info)).toEqual({
        queues: ['$upstream'],
      });
    });

    it('has no events while it is off', () => {
      const router = createRouter({ endpoints: [upstream], routes: [route('true', 'events')] });
      expect(router.route(info)).toEqual({ queues: ['$upstream'] });
    });
  });
});
