// The page's script. Texts of devices, peers and files reach the page as text nodes only, never as markup. No template
// literals in it, so that it reads here as it is sent.

export const SCRIPT_JS = String.raw`'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  const devices = new Map();
  let status = null;
  let live = false;

  function element(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
    return node;
  }

  function age(ms) {
    const secs = Math.max(0, Math.floor(ms / 1000));
    if (secs < 60) return secs + ' s';
    if (secs < 3600) return Math.floor(secs / 60) + ' min';
    if (secs < 86400) return Math.floor(secs / 3600) + ' h ' + (Math.floor(secs / 60) % 60) + ' min';
    return Math.floor(secs / 86400) + ' d ' + (Math.floor(secs / 3600) % 24) + ' h';
  }

  function size(bytes) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let unit = 0;
    for (; bytes >= 1024 && unit < units.length - 1; unit += 1) bytes /= 1024;
    return (unit === 0 ? bytes : bytes.toFixed(1)) + ' ' + units[unit];
  }

  const count = (number) => Number(number).toLocaleString('en');
  const stateClass = { good: 'good', degraded: 'warn', offline: 'bad', unknown: 'soft' };
  const levelClass = { error: 'bad', warn: 'warn', info: '', debug: 'soft' };

  function qualityClass(quality) {
    if (quality === 'good') return 'good';
    return quality.startsWith('bad') ? 'bad' : quality.startsWith('uncertain') ? 'warn' : 'soft';
  }

  function showStatus() {
    const { health, outbox } = status;
    byId('gateway').textContent = status.gatewayId;
    document.title = status.gatewayId + ' – Fieldpost';
    const badge = byId('health');
    badge.textContent = !health.live ? 'stuck' : !health.ready ? 'not ready' : health.degraded ? 'degraded' : 'running';
    badge.className = 'badge ' + (!health.live || !health.ready ? 'bad' : health.degraded ? 'warn' : 'good');
    const faults = status.config.faults.map((fault) => element('li', 'bad', fault));
    const reasons = health.reasons.map(({ part, status, reason }) => element('li', '', part + ': ' + (reason || status)));
    byId('reasons').replaceChildren(...reasons, ...faults);
    byId('reasons').hidden = reasons.length + faults.length === 0;
    byId('endpoints').replaceChildren(...(status.endpoints.length > 0 ? status.endpoints.map(endpointNode) : [element('p', 'soft', 'No upstream is configured: nothing leaves the gateway.')]));
    const rows = [
      ['Waiting', count(outbox.messages) + ' messages, ' + size(outbox.bytes)],
      ['Oldest', outbox.oldestAgeMs === undefined ? 'none' : age(outbox.oldestAgeMs)],
      ['Stored', count(outbox.appendedTotal) + ' messages in ' + count(outbox.commitsTotal) + ' commits'],
      ['Quarantine', count(outbox.quarantined)],
      ['Dropped', count(outbox.droppedTotal)],
      ['On disk', size(outbox.diskBytes) + ', ' + size(outbox.freeBytes) + ' free'],
    ];
    for (const queue of outbox.queues) {
      rows.push([queue.name, count(queue.messages) + ' waiting, ' + count(queue.acceptedTotal) + ' accepted' + (queue.detached ? ' (no such endpoint)' : '')]);
    }
    byId('outbox').replaceChildren(...rows.flatMap(([term, text]) => [element('dt', '', term), element('dd', '', text)]));
    byId('events').replaceChildren(...(status.events.length > 0 ? status.events.slice(0, 100).map(eventNode) : [element('li', 'soft', 'Nothing yet.')]));
    const { process, host } = status;
    byId('about').textContent = [
      'Fieldpost ' + status.version,
      'up ' + age(status.uptimeSecs * 1000),
      'configuration ' + status.config.generation + ' (' + status.config.state + ')',
      'clock ' + status.clock + ', ' + status.time.slice(0, 19) + 'Z',
      'memory ' + size(process.rssBytes),
      host.cpuPercent === undefined ? '' : 'CPU ' + Math.round(host.cpuPercent) + ' %',
      host.temperatureCelsius === undefined ? '' : host.temperatureCelsius + ' °C',
    ].filter(Boolean).join(' · ');
  }

  function endpointNode(endpoint) {
    return element('div', 'endpoint',
      element('div', 'head',
        element('h3', '', endpoint.name),
        element('span', endpoint.connected ? 'good' : 'warn', endpoint.state.replaceAll('_', ' ') + (endpoint.stateAgeMs === undefined ? '' : ' for ' + age(endpoint.stateAgeMs)))),
      element('div', 'soft', endpoint.type + ' · ' + endpoint.target),
      endpoint.reason === undefined ? null : element('div', '', endpoint.reason),
      endpoint.hint === undefined ? null : element('code', '', endpoint.hint));
  }

  function eventNode(event) {
    const fields = Object.entries(event.fields).map(([name, value]) => name + '=' + (typeof value === 'object' ? JSON.stringify(value) : value)).join(' ');
    return element('li', '',
      element('span', 'soft', event.time.slice(0, 19).replace('T', ' ') + ' '),
      element('span', levelClass[event.level], event.text + ' '),
      element('span', 'soft', fields));
  }

  function showDevices() {
    const filter = byId('filter').value.trim().toLowerCase();
    const now = performance.now();
    const nodes = [];
    for (const entry of [...devices.values()].sort((a, b) => (a.device.deviceId < b.device.deviceId ? -1 : 1))) {
      const { device, seenAt } = entry;
      const whole = device.deviceId.toLowerCase().includes(filter);
      const points = device.points.filter(({ point }) => whole || point.toLowerCase().includes(filter));
      if (!whole && points.length === 0) continue;
      nodes.push(deviceNode(device, points, now - seenAt));
    }
    const none = devices.size === 0 ? 'No devices are configured.' : 'Nothing fits the filter.';
    byId('devices').replaceChildren(...(nodes.length > 0 ? nodes : [element('p', 'soft', none)]));
    const all = status === null ? 0 : status.adapters.reduce((sum, { devices }) => sum + Object.values(devices).reduce((a, b) => a + b, 0), 0);
    byId('more').hidden = all <= devices.size;
    byId('more').textContent = devices.size + ' of ' + all + ' devices are shown; all of them as JSON: /api/devices';
  }

  function deviceNode(device, points, since) {
    const rows = points.map((point) => element('tr', '',
      element('td', '', point.point),
      element('td', 'value', point.value === undefined ? '–' : point.value, point.unit === undefined ? null : element('span', '', ' ' + point.unit)),
      element('td', qualityClass(point.quality), point.quality),
      element('td', 'soft', point.goodAgeMs === undefined ? '' : age(point.goodAgeMs + since))));
    const titles = ['Point', 'Value', 'Quality', 'Age'].map((title) => {
      const node = element('th', '', title);
      node.scope = 'col';
      return node;
    });
    return element('div', 'device',
      element('div', 'head',
        element('h3', '', device.deviceId),
        element('span', stateClass[device.state], device.state),
        element('span', 'soft', device.adapterId + (device.reason === undefined ? '' : ' · ' + device.reason))),
      element('table', '', element('thead', '', element('tr', '', ...titles)), element('tbody', '', ...rows)));
  }

  function setLive(now) {
    live = now;
    byId('lost').hidden = now;
    if (now) return;
    byId('health').textContent = 'not connected';
    byId('health').className = 'badge bad';
  }

  const source = new EventSource('/api/live');
  source.addEventListener('open', () => {
    devices.clear();
    setLive(true);
  });
  source.addEventListener('error', () => {
    setLive(false);
    // A refusal (too many pages are open) ends the source for good: a new page load is tried for it.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10000);
  });
  source.addEventListener('status', (event) => {
    status = JSON.parse(event.data);
    showStatus();
  });
  source.addEventListener('devices', (event) => {
    for (const device of JSON.parse(event.data)) devices.set(device.deviceId, { device, seenAt: performance.now() });
    showDevices();
  });
  source.addEventListener('removed', (event) => {
    for (const deviceId of JSON.parse(event.data)) devices.delete(deviceId);
    showDevices();
  });
  byId('filter').addEventListener('input', showDevices);
  setInterval(() => {
    if (status !== null) showDevices();
  }, 1000);
})();
`;
