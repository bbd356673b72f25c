# pcsr on the CPU, for a user without privileges:
#   docker build --tag pcsr .
#   docker run --rm --volume "$PWD:/data" pcsr in.png
FROM python:3.11-slim

RUN useradd --uid 1000 --create-home user \
    && pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE weights.toml ./
COPY examples ./examples
COPY pcsr_cli ./pcsr_cli
RUN pip install --no-cache-dir --constraint constraints.txt '.[heic,jxl]'

USER 1000
WORKDIR /data
ENTRYPOINT ["pcsr"]
