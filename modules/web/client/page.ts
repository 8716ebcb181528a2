// The one page: a frame that the script fills.

export const PAGE_HTML = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>Fieldpost</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="/style.css">
    <script src="/app.js" defer></script>
  </head>
  <body>
    <header>
      <h1>Fieldpost <span id="gateway"></span></h1>
      <p id="health" class="badge" role="status">connecting</p>
    </header>
    <noscript><p class="notice">Live values need JavaScript. The same as JSON: <a href="/api/status">/api/status</a>, <a href="/api/devices">/api/devices</a>.</p></noscript>
    <p id="lost" class="notice" role="alert" hidden>The connection to the gateway is lost; what follows is the last that was seen.</p>
    <ul id="reasons" class="notice" hidden></ul>
    <main>
      <section aria-labelledby="endpoints-title">
        <h2 id="endpoints-title">Where it goes</h2>
        <div id="endpoints"></div>
      </section>
      <section aria-labelledby="outbox-title">
        <h2 id="outbox-title">Outbox</h2>
        <dl id="outbox"></dl>
      </section>
      <section aria-labelledby="devices-title" class="wide">
        <h2 id="devices-title">Devices</h2>
        <input id="filter" type="search" placeholder="Filter by device or point" aria-label="Filter by device or point">
        <div id="devices"></div>
        <p id="more" hidden></p>
      </section>
      <section aria-labelledby="events-title" class="wide">
        <h2 id="events-title">What happened</h2>
        <ol id="events"></ol>
      </section>
    </main>
    <footer id="about"></footer>
  </body>
</html>
`;
