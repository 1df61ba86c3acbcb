"""The OpenAPI 3.1 document and the page for people, both made from the route table.

`document` puts it together, `operations` describes one row, `schemas` the types, `refusals` the
problems, `headers` what stands beside a body, `events` what is sent to webhooks, `examples` what it
all looks like, `notes` the words; `page` shows it.
"""
